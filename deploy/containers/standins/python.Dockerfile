# As the image python:3.13-slim is for what deploy/Dockerfile asks of it: `python` with pip, on Debian, and a standard
# library without bytecode.
FROM amends-standin/debian
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
    && mkdir -p /usr/local/lib/python3.13/dist-packages \
    && python3 -m zipfile -e /usr/share/python-wheels/pip-*.whl /usr/local/lib/python3.13/dist-packages/ \
    && ln -s /usr/bin/python3 /usr/local/bin/python \
    && find /usr/lib/python3.13 -name '*.pyc' -delete
CMD ["python3"]
