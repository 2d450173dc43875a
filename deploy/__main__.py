"""All three services in one process: `python -m deploy run`, `python -m deploy demo`.

The imports take most of a second, in which a Ctrl-C must not end in a traceback: that is seen to first.
"""

from messaging import interrupts

interrupts.end_at_once()

if __name__ == "__main__":
    from deploy.embedded import app

    app(prog_name="python -m deploy")
