"""What a container of the conformance suite Complement runs: a server named by SERVER_NAME, open to every test.

The suite copies a certificate authority to `/complement/ca` and registrations of application services to
`/complement/appservice`, starts the container, and may stop it, commit it as an image and start that again: so the
certificate and the configuration are made at every start, the data stays.
"""

import datetime as dt
import ipaddress
import json
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DATA = Path("/data")
AUTHORITY = Path("/complement/ca")
REGISTRATIONS = Path("/complement/appservice")
EVERYWHERE = ["0.0.0.0/0", "::/0"]


def main() -> None:
    name = os.environ["SERVER_NAME"]
    files = write_certificate(name)
    config = DATA / "config.yaml"
    config.write_text(json.dumps(settings(name, files), indent=1))  # JSON is YAML
    os.execvp("atrium", ["atrium", "serve", "--config", str(config)])


def settings(name: str, tls: dict[str, str]) -> dict[str, object]:
    everything = ["client", "federation", "media", "admin", "health"]
    return {
        "server": {"name": name, "data_dir": str(DATA), "processes": int(os.environ.get("PROCESSES", "1"))},
        "listeners": [
            {"address": "0.0.0.0", "port": 8008, "resources": everything},
            {"address": "0.0.0.0", "port": 8448, "resources": everything, "tls": tls},
        ],
        "registration": {
            "enabled": True,
            "flows": [["dummy"]],
            "open_without_checks": True,
            "guests": True,
            "shared_secret": "complement",
        },
        "auth": {
            "password_hash": {"memory": "8K", "passes": 1, "parallelism": 1},
            "password_policy": {"minimum_length": 1},
            "login_tokens": True,
        },
        "rate_limits": {"enabled": False},
        # Many tests give the creator a power level, which version 12 forbids.
        "rooms": {
            "default_version": os.environ.get("ROOM_VERSION", "11"),
            "directory": {
                "publish": "members",
                "read": "everybody",
                "read_over_federation": True,
                "user_search": "shared_rooms",
            },
        },
        "outbound": {
            "extra_ca_files": [str(AUTHORITY / "ca.crt")],
            "allow_private": dict.fromkeys(
                ("federation", "push", "appservices", "identity", "previews"), EVERYWHERE
            ),
        },
        "appservices": {"registration_files": [str(path) for path in sorted(REGISTRATIONS.glob("*.yaml"))]},
        "federation": {"device_names": True},
        "server_notices": {"enabled": True, "sender": "_server"},  # the name that the suite looks for
        "media": {"unauthenticated": True},
    }


def write_certificate(name: str) -> dict[str, str]:
    """A certificate for `name`, signed by the suite's authority; the files as the configuration names them."""
    authority = x509.load_pem_x509_certificate((AUTHORITY / "ca.crt").read_bytes())
    authority_key = serialization.load_pem_private_key((AUTHORITY / "ca.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([alternative(name)]), critical=False)
        .sign(authority_key, hashes.SHA256())  # type: ignore[arg-type]  # the suite's key is an RSA one
    )
    files = {"certificate": str(DATA / "tls.crt"), "private_key": str(DATA / "tls.key")}
    Path(files["certificate"]).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    Path(files["private_key"]).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


if __name__ == "__main__":
    sys.exit(main())
