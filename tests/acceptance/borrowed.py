"""borrowed.py ADDRESS [--at=MOMENT] WORDS…: `amends WORDS…` as a fork of the process that listens at ADDRESS."""

import array
import json
import os
import socket
import sys

if __name__ == "__main__":
    address, words = sys.argv[1], sys.argv[2:]
    at = words.pop(0).removeprefix("--at=") if words and words[0].startswith("--at=") else ""
    asked = {
        "words": words,
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to load than all the rest
        "environment": dict(os.environ),
        "at": at,
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    said = json.dumps(asked).encode() + b"\n"
    streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    sent = connection.sendmsg([said], streams)
    connection.sendall(said[sent:])
    # Ours are of no use any more: whoever reads a pipe waits until the last of its writers has ended.
    code = int(connection.recv(16) or b"70")
    sys.exit(code if code >= 0 else 128 - code)
