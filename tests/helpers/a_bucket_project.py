"""A project whose originals, renditions and quarantine are in buckets of a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from a_bucket import Bucket, environment
from a_project import NOTE_OF_THE_FOLDER, Project, picture

from pipeline.storage.bucket_client import forget_clients

Make = Callable[..., "BucketProject"]


class BucketProject(Project):
    """Originals below ``in/``, renditions below ``out/``, what was taken down below ``kept/``."""

    def __init__(self, root: Path, endpoint: str, *folders: str, versions: bool = False) -> None:
        """``folders``: settings that stay folders, for example ``INPUT``."""
        super().__init__(root)
        self.bucket, self._has_versions = Bucket(endpoint, versions), versions
        self.folders = folders
        forget_clients()
        self.env |= environment(endpoint)
        for name, prefix in (("INPUT", "in"), ("OUTPUT", "out"), ("QUARANTINE", "kept")):
            if name not in folders:
                self.env[f"PIPELINE_{name}"] = f"s3://{self.bucket.name}/{prefix}"

    def put(self, path: str, seed: int | str | None = None) -> None:
        """Put a small picture as an original."""
        if "INPUT" in self.folders:
            self.add(path, seed)  # type: ignore[arg-type]
            return
        data = picture(Path(path).suffix, path if seed is None else seed, (60, 40))
        self.bucket.put(f"in/{path}", data)

    def take(self, path: str) -> None:
        """Delete an original."""
        if "INPUT" in self.folders:
            (self.input / path).unlink()
        else:
            self.bucket.delete(f"in/{path}")

    def outputs(self) -> dict[str, bytes]:
        """Every rendition with its bytes."""
        if "OUTPUT" in self.folders:
            return super().outputs()
        names = [name for name in self.bucket.names("out/") if NOTE_OF_THE_FOLDER not in name]
        return {name.removeprefix("out/"): self.bucket.get(name) for name in names}

    def expected(self) -> dict[str, bytes]:
        """What there would be had the originals been in a folder from the start."""
        if "INPUT" not in self.folders:
            shutil.rmtree(self.input)
            self.input.mkdir()
            for name in self.bucket.names("in/"):
                file = self.input / name.removeprefix("in/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.bucket.get(name))
        return super().expected()

    def written(self) -> dict[str, str]:
        """When each object below the output place was written."""
        pages = self.bucket._s3.objects("out/")
        return {each.name.removeprefix("out/"): each.modified for page in pages for each in page}

    def close(self) -> None:
        if not self._has_versions:  # otherwise it ends with its server
            self.bucket.drop()
        self.bucket.close()
        forget_clients()
