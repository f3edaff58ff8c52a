"""Who we are to S3 and stores like it, and where they are: as the AWS tools find it.

In this order: environment variables, a profile of ``~/.aws``, a token of a web identity, the role
of a container, the role of a machine. obstore has no profiles, and does not hand out what it finds;
both it and :mod:`pipeline.storage.s3` use what is found here.
"""

from __future__ import annotations

import configparser
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipeline.errors import SettingsError

# Renewed this long before they end: a request that is retried must not outlive them.
_RENEW_BEFORE_S = 300.0
_ANSWER_WITHIN_S = 5.0
_CONTAINER_HOST = "http://169.254.170.2"
_MACHINE_HOST = "http://169.254.169.254"
_OTHER_WAYS = ("role_arn", "sso_session", "sso_start_url", "credential_process")


@dataclass(frozen=True)
class Credentials:
    """A key with its secret; ``expires_ts`` is Unix time, ``None`` for one that does not end."""

    key_id: str
    secret: str
    token: str | None = None
    expires_ts: float | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.key_id!r})"

    @property
    def is_due(self) -> bool:
        """Whether they are to be renewed."""
        return self.expires_ts is not None and time.time() > self.expires_ts - _RENEW_BEFORE_S


class AwsAccess:
    """The endpoint, region and credentials of this process; ``None`` where requests are anonymous.

    Raises:
        SettingsError: a profile is named that is not there, or that needs the AWS tools.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._profile = self._read_profile()
        self._known: Credentials | None = None
        self.is_anonymous = self._flag("AWS_SKIP_SIGNATURE")
        self.is_virtual_hosted = self._flag("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")
        self.region = (
            self._said("AWS_REGION", "AWS_DEFAULT_REGION")
            or self._profile.get("region")
            or "us-east-1"
        )
        endpoint = self._said("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        endpoint = endpoint or self._profile.get("endpoint_url", "")
        self.endpoint = (endpoint or f"https://s3.{self.region}.amazonaws.com").rstrip("/")
        self.ca_bundle = self._said("AWS_CA_BUNDLE") or None

    def base_url(self, bucket: str) -> str:
        """What the addresses of a bucket's objects begin with, without a slash at its end."""
        if not self.is_virtual_hosted:
            return f"{self.endpoint}/{bucket}"
        scheme, _, host = self.endpoint.partition("://")
        return self.endpoint if host.startswith(f"{bucket}.") else f"{scheme}://{bucket}.{host}"

    def credentials(self) -> Credentials | None:
        """The credentials for the next request.

        Raises:
            SettingsError: none are found.
        """
        if self.is_anonymous:
            return None
        if self._known is None or self._known.is_due:
            self._known = self._found()
        return self._known

    def _found(self) -> Credentials:
        environ, token = self._environ, self._said("AWS_SESSION_TOKEN", "AWS_TOKEN")
        named = self._said("AWS_PROFILE") if "AWS_ACCESS_KEY_ID" not in environ else ""
        if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
            key_id, secret = environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
            return Credentials(key_id, secret, token or None)
        profile = self._profile
        if "aws_access_key_id" in profile and "aws_secret_access_key" in profile:
            key_id, secret = profile["aws_access_key_id"], profile["aws_secret_access_key"]
            return Credentials(key_id, secret, profile.get("aws_session_token"))
        other = next((way for way in _OTHER_WAYS if way in profile), None)
        if other is not None or named:
            raise SettingsError(
                f"AWS_PROFILE={named or 'default'!r}: the profile "
                + (f"uses {other}, which only the AWS tools read" if other else "has no key")
                + '; run `eval "$(aws configure export-credentials --format env)"` first, '
                "or name a profile with aws_access_key_id"
            )
        try:
            if "AWS_WEB_IDENTITY_TOKEN_FILE" in environ and "AWS_ROLE_ARN" in environ:
                return self._of_web_identity()
            return self._of_container() or self._of_machine()
        except (OSError, ValueError, KeyError) as error:
            raise SettingsError(
                "no credentials for the bucket are found "
                f"({str(error) or type(error).__name__}); "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run it where "
                "there is a role"
            ) from None

    def _of_web_identity(self) -> Credentials:
        environ = self._environ
        default = f"https://sts.{self.region}.amazonaws.com"
        wanted = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": environ["AWS_ROLE_ARN"],
            "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME") or "lockstep",
            "WebIdentityToken": Path(environ["AWS_WEB_IDENTITY_TOKEN_FILE"]).read_text().strip(),
        }
        endpoint = self._said("AWS_ENDPOINT_URL_STS", "AWS_STS_ENDPOINT") or default
        body = urllib.parse.urlencode(wanted).encode()
        answer = ElementTree.fromstring(_asked(endpoint, body=body))
        said = {each.tag.rpartition("}")[2]: each.text or "" for each in answer.iter()}
        ends = _timestamp(said["Expiration"])
        return Credentials(said["AccessKeyId"], said["SecretAccessKey"], said["SessionToken"], ends)

    def _of_container(self) -> Credentials | None:
        environ = self._environ
        url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
        if relative := environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            url = _CONTAINER_HOST + relative
        if not url:
            return None
        headers = {}
        if file := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            headers["Authorization"] = Path(file).read_text().strip()
        elif token := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"):
            headers["Authorization"] = token
        return _of_json(_asked(url, headers))

    def _of_machine(self) -> Credentials:
        if self._flag("AWS_EC2_METADATA_DISABLED"):
            raise ValueError("no variable, no profile, no role")
        host = self._said("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT")
        latest = (host or _MACHINE_HOST).rstrip("/") + "/latest"
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
        token = _asked(f"{latest}/api/token", ttl, method="PUT").decode()
        headers = {"X-aws-ec2-metadata-token": token}
        roles = f"{latest}/meta-data/iam/security-credentials/"
        role = _asked(roles, headers).decode().split("\n")[0].strip()
        return _of_json(_asked(roles + role, headers))

    def _read_profile(self) -> dict[str, str]:
        environ, home = self._environ, Path.home() / ".aws"
        name = environ.get("AWS_PROFILE") or "default"
        places = [
            (environ.get("AWS_CONFIG_FILE") or home / "config", f"profile {name}"),
            (environ.get("AWS_CONFIG_FILE") or home / "config", name),
            (environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials", name),
        ]
        found: dict[str, str] = {}
        is_there = False
        for file, section in places:
            parser = configparser.RawConfigParser(strict=False)
            try:
                parser.read(Path(file).expanduser(), encoding="utf-8")
            except (configparser.Error, UnicodeDecodeError) as error:
                said = str(error).replace("\n", " ")
                raise SettingsError(f"{file}: cannot be read ({said}); fix it") from None
            if parser.has_section(section):
                is_there = True
                found |= dict(parser.items(section))
        if environ.get("AWS_PROFILE") and not is_there:
            raise SettingsError(
                f"AWS_PROFILE={name!r}: there is no such profile in {places[0][0]} and "
                f"{places[2][0]}; name one that is there"
            )
        return found

    def _said(self, *names: str) -> str:
        return next((self._environ[name] for name in names if self._environ.get(name)), "")

    def _flag(self, name: str) -> bool:
        return self._environ.get(name, "").lower() in ("true", "1", "yes", "on")


def _asked(
    url: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    method: str | None = None,
) -> bytes:
    # No proxy: these addresses are of this machine, or of its network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    with opener.open(request, timeout=_ANSWER_WITHIN_S) as answer:
        data: bytes = answer.read(1 << 20)
    return data


def _of_json(text: bytes) -> Credentials:
    said: dict[str, Any] = json.loads(text)
    ends = said.get("Expiration")
    return Credentials(
        said["AccessKeyId"], said["SecretAccessKey"], said.get("Token"), ends and _timestamp(ends)
    )


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
