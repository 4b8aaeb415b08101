"""Certificates for a private server, made when they are needed and gone with it."""

from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.servers import account


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files in PEM; the certificate is for 127.0.0.1 and localhost."""

    authority: Path
    certificate: Path
    key: Path


def certificates(folder: Path) -> Certificates:
    """Make an authority and a certificate of it in *folder*, for the servers' account to read."""
    made = Certificates(authority=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.key")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(made.authority))
    issued.cert_chain_pems[0].write_to_path(str(made.certificate))
    issued.private_key_pem.write_to_path(str(made.key))
    for path in (made.authority, made.certificate, made.key):
        account.give(path)
    return made
