#!/bin/bash
# Builds and tries both images on a Debian machine without a container engine, as root: buildah in a chroot, with base
# images made by debootstrap in place of python:3.11-slim-bookworm. See docs/design/images.md.
#
#     apt-get install buildah debootstrap
#     docker/build_without_engine.sh FOLDER [-v HOST:CONTAINER:ro …]
#
# FOLDER takes the storage (about 20 GB; delete it afterwards). The further options go to `buildah build`: mount pip's
# configuration there if this machine has one.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || { echo "usage: docker/build_without_engine.sh FOLDER [-v HOST:CONTAINER:ro …]" >&2; exit 2; }
folder=$(realpath -m "$1"); shift
mkdir -p "$folder"
base=docker.io/library/python:3.11-slim-bookworm
storage=(--root "$folder/storage" --runroot "$folder/run" --storage-driver vfs)
build=(build "${storage[@]}" --isolation chroot --pull=never "$@")

base_image() {  # ARCHITECTURE [debootstrap's options]: arm64 is only unpacked, since nothing of it runs at build time
  local arch=$1; shift
  local root="$folder/base-$arch"
  [ -d "$root" ] || {
    debootstrap --variant=minbase "--arch=$arch" "$@" \
      --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$root.partial" > "$folder/base-$arch.log"
    # What --foreign has fetched and left packed: nothing of it can be configured here, and nothing has to be.
    [ $# = 0 ] || for deb in "$root.partial"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$root.partial"; done
    rm -rf "$root.partial"/var/cache/apt/archives/*.deb
    mv "$root.partial" "$root"
  }
  local made; made=$(buildah from "${storage[@]}" --arch "$arch" scratch)
  buildah add "${storage[@]}" --quiet "$made" "$root" / > /dev/null
  buildah config "${storage[@]}" --arch "$arch" --os linux --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$made"
  buildah commit "${storage[@]}" --quiet --rm "$made" "localhost/base-$arch" > /dev/null
}

use_base() {  # ARCHITECTURE: what the Dockerfiles' FROM finds
  buildah tag "${storage[@]}" "localhost/base-$1" "$base"
}

base_image amd64
use_base amd64
buildah "${build[@]}" -f "$here/docker/Dockerfile" -t secateur "$here"
buildah "${build[@]}" -f "$here/docker/Dockerfile.runner" --build-arg TARGETARCH=amd64 -t secateur-runner:amd64 "$here"
# The stage that fetches runs here; the image for arm64 starts from its own base, of which nothing is run.
buildah "${build[@]}" -f "$here/docker/Dockerfile.runner" --target fetch --build-arg TARGETARCH=arm64 -t fetched:arm64 "$here"
base_image arm64 --foreign
sed -e '/^FROM --platform/,/^COPY stages/d' "$here/docker/Dockerfile.runner" > "$folder/Dockerfile.arm64"
fetched=$(buildah mount "${storage[@]}" "$(buildah from "${storage[@]}" --pull-never localhost/fetched:arm64)")
use_base arm64
buildah "${build[@]}" --arch arm64 --build-context "fetch=$fetched" -f "$folder/Dockerfile.arm64" \
  -t secateur-runner:arm64 "$here"
use_base amd64
buildah images "${storage[@]}" --format '{{.Name}}:{{.Tag}} {{.Size}}' | grep -E 'secateur|base-'
