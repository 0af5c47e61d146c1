"""``serve``: answer robots over a websocket."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser, add_policy_arguments, load_policy


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    about = "serve a policy over a websocket: observation in, chunk of actions out"
    parser = add_parser("serve", help=about, allow_abbrev=False)  # --token VALUE must not pass for --token-file
    add_policy_arguments(parser)
    about = "to listen on; 0.0.0.0: all. Needs a token where other machines reach it (default: %(default)s)"
    parser.add_argument("--host", default="127.0.0.1", help=about)
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    about = "file with the token that robots must send (default: the environment variable MOBILE_VLA_TOKEN)"
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=about)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.serving.access import check_access, read_token
    from mobile_vla.serving.server import serve

    token = read_token(args.token_file)
    check_access(host=args.host, token=token)  # before the policy is loaded, which may take minutes
    serve(load_policy(args), host=args.host, port=args.port, token=token)
    return 0
