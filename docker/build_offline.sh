#!/usr/bin/env bash
# Builds the image without a container daemon and without an image registry.
#
#   docker/build_offline.sh [NAME]        NAME is vdm_pipeline:0.1.0 unless given, as in compose.yaml
#
# Needs: root, Debian, 30 GB of disk, and: apt-get install buildah debootstrap
# The base is what debootstrap makes of the Debian release that runs here. Debian's and Python's packages come from
# where apt and pip of this machine find them. Their configuration is mounted for the build and is not in the image.
# For torch without CUDA, set PIP_EXTRA_INDEX_URL as the Dockerfile says.
# Where overlay file systems cannot be mounted, set STORAGE_DRIVER=vfs: each step then copies the whole image.
set -euo pipefail
cd "$(dirname "$0")/.."

name=localhost/${1:-vdm_pipeline:0.1.0}
release=$(awk -F= '$1 == "VERSION_CODENAME" {print $2}' /etc/os-release)
base=localhost/vdm_base:$release
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} # runs commands without a container runtime

build_base() {
  local container root mirror
  # shellcheck disable=SC2016 # apt expands $(REPO_URI)
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $release" | head -n 1)
  container=$(buildah from scratch)
  root=$(buildah mount "$container")
  debootstrap --variant=minbase "$release" "$root" "$mirror"
  rm "$root/etc/apt/sources.list" # names the mirror of this machine
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*
  buildah umount "$container" >/dev/null
  buildah commit --quiet --rm "$container" "$base"
}

# Where pip of this machine finds packages, with the certificates that it trusts.
write_pip_conf() {
  local folder=$1 certificates
  python3 -m pip config list |
    sed -nE "s/^[a-z:]+\.(index-url|extra-index-url|trusted-host|proxy)='(.*)'\$/\1 = \2/p" >"$folder/settings"
  certificates=$(python3 -m pip config get global.cert 2>/dev/null || echo /etc/ssl/certs/ca-certificates.crt)
  cp "$certificates" "$folder/certificates.crt"
  printf '[global]\ncert = /etc/xdg/pip/certificates.crt\n' | cat - "$folder/settings" >"$folder/pip.conf"
}

build_image() {
  local volumes=("--volume=$1:/etc/xdg/pip:ro") path
  for path in /etc/apt /usr/share/keyrings; do
    volumes+=("--volume=$path:$path:ro")
  done
  # Docker's image format, because OCI's has no health check.
  buildah build --format docker --layers=false --file docker/Dockerfile \
    --ignorefile docker/Dockerfile.dockerignore --build-arg "BASE=$base" \
    ${PIP_EXTRA_INDEX_URL:+--build-arg "PIP_EXTRA_INDEX_URL=$PIP_EXTRA_INDEX_URL"} \
    "${volumes[@]}" --tag "$name" .
}

pip_folder=$(mktemp -d)
trap 'rm -rf "$pip_folder"' EXIT
build_base
write_pip_conf "$pip_folder"
build_image "$pip_folder"
buildah images "$name"
