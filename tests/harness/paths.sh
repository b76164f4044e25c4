# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# shellcheck shell=bash disable=SC2034  # others use what is set here
# Sourced by the harness scripts: where things are, and how they speak.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
HARNESS=$REPO/tests/harness
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/virtio-loopback
BUILD=${BUILD:-$REPO/build}
export LC_ALL=C.UTF-8
# depmod and friends live in sbin, which is not in everybody's path.
PATH=$PATH:/usr/sbin:/sbin

# No failure is silent, even where nobody thought of a message.
trap 'printf "%s: stopped at line %s\n" "$(basename "$0")" "$LINENO" >&2' ERR
set -o errtrace

say() { printf '   %s\n' "$*" >&2; }

die() {
    printf '%s: error: %s\n' "$(basename "$0")" "$1" >&2
    shift
    [[ $# -eq 0 ]] || printf '    %s\n' "$@" >&2
    exit 1
}

command -v dpkg >/dev/null || die "this needs Debian or one of its kin" "elsewhere: README.md, 'Without the packages'"
ARCH=$(dpkg --print-architecture)

# Runs a command as root. Everything that needs it goes through here.
as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this step needs root, and there is no sudo" "it wanted to run: $*" "run it as root, or install sudo"
    fi
}

# Runs a command quietly; its output is shown only when it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [[ $status -eq 0 ]] || cat "$log" >&2
    rm -f "$log"
    return "$status"
}

# The folder of the cargo to use: the machine's own if it is new enough for
# Cargo.toml and complete, else Debian's rustc-web. Prints nothing if neither.
cargo_folder() {
    local wanted folder version
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$REPO/Cargo.toml")
    local -a folders
    IFS=: read -ra folders <<<"$PATH:$HOME/.cargo/bin:/usr/bin"
    for folder in "${folders[@]}"; do
        [[ -x $folder/cargo ]] || continue
        version=$(cd "$REPO" && "$folder/cargo" --version 2>/dev/null | cut -d' ' -f2) || continue
        dpkg --compare-versions "${version:-0}" ge "$wanted" || continue
        env PATH="$folder:$PATH" cargo clippy --version >/dev/null 2>&1 || continue
        env PATH="$folder:$PATH" cargo fmt --version >/dev/null 2>&1 || continue
        echo "$folder"
        return
    done
}
