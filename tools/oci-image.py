#!/usr/bin/env python3
"""Packs a module as an OCI image that Envoy's control planes can pull:

    tools/oci-image.py MODULE IMAGE.tar --version VERSION [--commit COMMIT] [--epoch SECONDS]

The image is of the *compat* variant of the Wasm image specification, which Istio and Envoy Gateway read:
one layer of the usual media type, with the one file `plugin.wasm` at its root, and an annotation of the
manifest that says so. The file is an OCI image layout in a tar, as skopeo, oras and podman take it. What is
tagged with the version is an index of the same image for each platform that Envoy's own images are for: a
module runs on all, but a Kubernetes node mounts only what is for its own.

The same arguments make the same bytes. Everything in it has the age SECONDS since 1970, which is
SOURCE_DATE_EPOCH, or 0, if it is not given.
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import tarfile

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ARCHITECTURES = ["amd64", "arm64"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("image")
    parser.add_argument("--version", required=True)
    parser.add_argument("--commit", default="")
    parser.add_argument("--epoch", type=int, default=int(os.environ.get("SOURCE_DATE_EPOCH") or 0))
    asked = parser.parse_args()
    with open(asked.module, "rb") as opened:
        module = opened.read()
    image = pack(module, asked.version, asked.commit, asked.epoch)
    with open(asked.image, "wb") as opened:
        opened.write(image)


def pack(module, version, commit, epoch):
    """The bytes of the layout's tar."""
    blobs = {}

    def blob(media_type, content):
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = {
        "org.opencontainers.image.title": "wecom-callback-filter",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.created": created,
    }
    if commit:
        names["org.opencontainers.image.revision"] = commit
    files = tar({"plugin.wasm": module}, epoch)
    layer = blob(LAYER, compress(files))
    diff_ids = [f"sha256:{hashlib.sha256(files).hexdigest()}"]

    def image(architecture):
        """The descriptor of the image for that processor. Nodes compare both with their own: it, and the config."""
        platform = {"architecture": architecture, "os": "linux"}
        config = {
            "created": created,
            **platform,
            "config": {"Labels": names},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": created, "created_by": "COPY plugin.wasm ./"}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(CONFIG, to_json(config)),
            "layers": [layer],
            "annotations": {"module.wasm.image/variant": "compat", **names},
        }
        return {**blob(MANIFEST, to_json(manifest)), "platform": platform}

    images = [image(architecture) for architecture in ARCHITECTURES]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": images, "annotations": names}
    tagged = {**blob(INDEX, to_json(index)), "annotations": {"org.opencontainers.image.ref.name": version}}
    entry = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [tagged]}
    layout = {"oci-layout": to_json({"imageLayoutVersion": "1.0.0"}), "index.json": to_json(entry)}
    return tar({**layout, **blobs}, epoch)


def tar(files, epoch):
    """A tar of these files, sorted by name, with nothing in it of the machine."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), epoch, 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def compress(content):
    """gzip, without a name or a time in its header. What zlib makes of it depends on zlib alone."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(content)
    return packed.getvalue()


def to_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    main()
