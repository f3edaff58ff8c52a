"""Who we are to S3, and where it is: as the AWS tools find it."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.storage.aws_access import AwsAccess, Credentials
from pipeline.storage.s3 import signed_headers

ENDS = datetime.datetime(2099, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
SAID = {
    "AccessKeyId": "role-key",
    "SecretAccessKey": "role-secret",
    "Token": "role-token",
    "Expiration": "2099-01-02T03:04:05Z",
}
OF_ROLE = Credentials("role-key", "role-secret", "role-token", ENDS.timestamp())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without anything in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path


@pytest.fixture
def roles() -> Iterator[str]:
    """An endpoint that gives credentials of a role, as containers, machines and STS have it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("X-aws-ec2-metadata-token")
            of_container = self.headers.get("Authorization") == "a-container"
            if self.path == "/container" if of_container else token != "a-session":
                self._answer(json.dumps(SAID) if of_container else "")
            else:
                is_list = self.path.endswith("/security-credentials/")
                self._answer("a-role" if is_list else json.dumps(SAID))

        def do_PUT(self) -> None:
            self._answer("a-session")

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            assert "WebIdentityToken=a-token" in asked
            said = {**SAID, "SessionToken": SAID["Token"]}
            inner = "".join(f"<{name}>{value}</{name}>" for name, value in said.items())
            self._answer(f'<R xmlns="https://sts"><Credentials>{inner}</Credentials></R>')

        def _answer(self, text: str) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_variables_win_over_profiles(home: Path) -> None:
    (home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = file-key\naws_secret_access_key = file-secret\n"
    )
    given = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert AwsAccess(given).credentials() == Credentials("key", "secret")
    assert AwsAccess({}).credentials() == Credentials("file-key", "file-secret")


def test_a_profile_has_a_key_a_region_and_an_endpoint(home: Path) -> None:
    (home / ".aws/config").write_text(
        "[profile shop]\nregion = eu-west-1\nendpoint_url = http://10.0.0.1:9000/\n"
    )
    (home / ".aws/credentials").write_text(
        "[shop]\naws_access_key_id = k\naws_secret_access_key = s\naws_session_token = t\n"
    )
    access = AwsAccess({"AWS_PROFILE": "shop"})
    assert access.credentials() == Credentials("k", "s", "t")
    assert (access.region, access.base_url("b")) == ("eu-west-1", "http://10.0.0.1:9000/b")


def test_without_a_word_it_is_amazon_and_the_bucket_may_be_in_the_host(home: Path) -> None:
    access = AwsAccess({"AWS_REGION": "eu-north-1", "AWS_SKIP_SIGNATURE": "true"})
    assert access.base_url("b") == "https://s3.eu-north-1.amazonaws.com/b"
    assert access.credentials() is None
    access = AwsAccess(
        {"AWS_ENDPOINT_URL": "https://store:9000", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}
    )
    assert access.base_url("b") == "https://b.store:9000"


@pytest.mark.parametrize("of", ["container", "machine", "web identity"])
def test_a_role_gives_credentials_for_a_while(home: Path, roles: str, of: str) -> None:
    (home / "token").write_text("a-token\n")
    environ = {
        "container": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{roles}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "a-container",
        },
        "machine": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": roles},
        "web identity": {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(home / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/r",
            "AWS_ENDPOINT_URL_STS": roles,
        },
    }[of]
    access = AwsAccess(environ)
    found = access.credentials()
    assert found == OF_ROLE
    assert access.credentials() is found


@pytest.mark.parametrize(
    ("config", "profile", "said"),
    [
        ("", "shop", "there is no such profile"),
        ("[profile shop]\nsso_session = x\n", "shop", "uses sso_session, which only the AWS tools"),
        ("[default]\nrole_arn = x\n", "", "uses role_arn, which only the AWS tools read"),
        ("[profile shop]\nregion = x\n", "shop", "has no key"),
        ("[x\n", "", "cannot be read"),
        ("", "", "no credentials for the bucket are found"),
    ],
)
def test_credentials_that_cannot_be_had_are_said_with_the_way_to_them(
    home: Path, config: str, profile: str, said: str
) -> None:
    (home / ".aws/config").write_text(config)
    environ = {"AWS_EC2_METADATA_DISABLED": "true"} | ({"AWS_PROFILE": profile} if profile else {})
    with pytest.raises(SettingsError, match=said):
        AwsAccess(environ).credentials()


def test_requests_are_signed_as_amazon_describes_it() -> None:
    # "Example: GET Bucket (List Objects)" of the reference of Signature Version 4 for S3.
    credentials = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    headers = signed_headers(
        "GET",
        "https://examplebucket.s3.amazonaws.com/",
        "max-keys=2&prefix=J",
        "us-east-1",
        credentials,
        now=datetime.datetime(2013, 5, 24, tzinfo=datetime.timezone.utc),
    )
    signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert headers["authorization"].endswith(f"Signature={signature}")
