#!/usr/bin/env python3
"""Writes what a nats-server with an operator, an account and a user needs, into a new folder.

    make_credentials.py DIR      operator.conf (configuration), user.creds (of its user), other.creds
                                 (of an account that the server does not know)

Keys are made and used by the openssl program (Ed25519). Form of keys and tokens: the nkeys and jwt
pages of the NATS documentation.
"""
import base64
import json
import pathlib
import subprocess
import sys
import time

PREFIX = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
SEED = 18 << 3
FREE = {"subs": -1, "data": -1, "payload": -1}
ACCOUNT = FREE | {"imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
JETSTREAM = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


def openssl(*args: str) -> bytes:
    return subprocess.run(["openssl", *args], check=True, stdout=subprocess.PIPE).stdout


def crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def nkey(data: bytes) -> str:
    return base64.b32encode(data + crc16(data).to_bytes(2, "little")).decode().rstrip("=")


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    def __init__(self, folder: pathlib.Path, name: str, kind: str):
        self.name, self.kind, self.path, self.folder = name, kind, folder / (name + ".pem"), folder
        openssl("genpkey", "-algorithm", "ed25519", "-out", str(self.path))
        public = openssl("pkey", "-in", str(self.path), "-pubout", "-outform", "DER")[-32:]
        secret = openssl("pkey", "-in", str(self.path), "-outform", "DER")[-32:]
        prefix = PREFIX[kind]
        self.id = nkey(bytes([prefix]) + public)
        self.seed = nkey(bytes([SEED | prefix >> 5, (prefix & 31) << 3]) + secret)

    def token(self, issuer: "Key", rights: dict) -> str:
        claims = {"jti": self.id, "iat": int(time.time()), "iss": issuer.id, "sub": self.id,
                  "name": self.name, "nats": rights | {"type": self.kind, "version": 2}}
        text = ".".join(url64(json.dumps(part).encode())
                        for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims))
        unsigned = self.folder / "unsigned"
        unsigned.write_text(text)
        signature = openssl("pkeyutl", "-sign", "-rawin", "-inkey", str(issuer.path),
                            "-in", str(unsigned))
        return text + "." + url64(signature)


def credentials(user: Key, account: Key) -> str:
    dashes = "-" * 5
    token = user.token(account, FREE)
    return (f"{dashes}BEGIN NATS USER JWT{dashes}\n{token}\n------END NATS USER JWT------\n\n"
            f"{dashes}BEGIN USER NKEY SEED{dashes}\n{user.seed}\n------END USER NKEY SEED------\n")


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir()
    operator = Key(folder, "operator", "operator")
    system, account, unknown = (Key(folder, name, "account") for name in ("sys", "known", "unknown"))
    (folder / "operator.conf").write_text(
        f"operator: {operator.token(operator, {})}\n"
        f"system_account: {system.id}\n"
        "resolver: MEMORY\n"
        "resolver_preload: {\n"
        f"  {system.id}: {system.token(operator, {'limits': ACCOUNT})}\n"
        f"  {account.id}: {account.token(operator, {'limits': ACCOUNT | JETSTREAM})}\n"
        "}\n")
    (folder / "user.creds").write_text(credentials(Key(folder, "user", "user"), account))
    (folder / "other.creds").write_text(credentials(Key(folder, "other", "user"), unknown))


if __name__ == "__main__":
    main()
