#!/bin/sh
# Installs what the build and the tests need, with apt, without recommended packages. Quick when all is there.
#     scripts/setup.sh [PACKAGE...]     and these, which only some tests need
set -eu

packages="git make cmake ninja-build g++ ccache python3 python3-pip python3-yaml openssl clang-format curl ca-certificates
  libtorch-dev libgloo-dev libopenblas0-pthread liblmdb-dev libnats-dev libssl-dev libgtest-dev libgmock-dev libbenchmark-dev $*"

missing=""
for package in $packages; do
  case "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)" in
    "install ok installed") ;;
    *) missing="$missing $package" ;;
  esac
done
[ -z "$missing" ] && exit 0

as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo "
install="apt-get install -y --no-install-recommends$missing"

by_hand() {
  echo "setup: $1; run this by hand, as root, and then again what you ran:" >&2
  echo "    apt-get update && $install" >&2
  exit 1
}

command -v apt-get >/dev/null || by_hand "this system has no apt-get (the names below are Debian 12's)"
[ -z "$as_root" ] || command -v sudo >/dev/null || by_hand "neither root nor sudo"

echo "setup: installing$missing" >&2
# A package list that is a little old is fine, and so is a mirror that is away if the list is there: install decides.
# The names are words of their own, unquoted on purpose. sudo drops the environment: env puts the setting back.
# shellcheck disable=SC2086
${as_root}apt-get update -qq >&2 || true
# shellcheck disable=SC2086
${as_root}env DEBIAN_FRONTEND=noninteractive $install >&2 || by_hand "installing failed"
