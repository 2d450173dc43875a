"""The container images and deploy/compose.yaml tried for real, on a Docker engine: `make test-containers`."""
