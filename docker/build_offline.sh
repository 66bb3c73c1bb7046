#!/usr/bin/env bash
# Builds the image without a container daemon and without an image registry.
#
#   docker/build_offline.sh [NAME]        NAME is vdm_pipeline:0.1.0 unless given, as in compose.yaml
#
# Needs: root, Debian or Ubuntu, 30 GB of disk, and: apt-get install buildah debootstrap
# The base is what debootstrap makes: Debian bookworm, or the release in SUITE. Debian's packages and Python's
# come from where this machine's apt and pip find them. Their configuration is mounted while the image is built,
# and no part of it is in the image. To build without CUDA, set PIP_EXTRA_INDEX_URL as the Dockerfile says.
# Where overlay file systems cannot be mounted, set STORAGE_DRIVER=vfs: it needs 60 GB.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:-vdm_pipeline:0.1.0}
suite=${SUITE:-bookworm}
base=localhost/vdm_base:$suite
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} # runs commands without a container runtime

# The first Debian mirror that apt uses for packages.
mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u | grep -m 1 '/debian/*$'
}

build_base() {
  local container root
  container=$(buildah from scratch)
  root=$(buildah mount "$container")
  debootstrap --variant=minbase "$suite" "$root" "$(mirror)"
  echo "deb http://deb.debian.org/debian $suite main" >"$root/etc/apt/sources.list"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*
  buildah umount "$container" >/dev/null
  buildah commit --quiet --rm "$container" "$base" >/dev/null
}

build_image() {
  local volumes=() path
  for path in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/auth.conf.d \
    /etc/apt/keyrings /usr/share/keyrings /etc/pip.conf /etc/xdg/pip /etc/ssl/certs; do
    if [[ -e $path ]]; then volumes+=(--volume "$path:$path:ro"); fi
  done
  # Docker's image format: OCI's has no health check.
  buildah build --format docker --layers=false --file docker/Dockerfile --ignorefile docker/Dockerfile.dockerignore \
    --build-arg "BASE=$base" --build-arg "PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL:-}" \
    "${volumes[@]}" --tag "localhost/$name" .
}

build_base
build_image
buildah images "localhost/$name"
