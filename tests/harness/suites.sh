# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# shellcheck shell=bash
# Sourced after paths.sh: other Debian suites, reached through the mirror this
# machine already uses, without touching its apt configuration.

# Prints the URI of the machine's own Debian mirror. apt itself reads the
# sources, so every form it knows (.sources, sources.list) works.
mirror_uri() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016  # apt substitutes these, not the shell
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v codename="$codename" '
            $2 != "main" { next }
            $1 == codename { print $3; found = 1; exit }
            $1 ~ /^(stable|oldstable|oldoldstable|testing)$/ && !other { other = $3 }
            END { if (!found && other) print other }'
}

# Prints the one-line apt source of suite $1.
suite_line() {
    local uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg options=
    uri=$(mirror_uri)
    [[ -n $uri ]] || die "no Debian mirror found in this machine's apt sources" \
        "suite $1 is needed; add a 'main' entry of your release to the apt sources"
    [[ ! -f $keyring ]] || options="[signed-by=$keyring] "
    echo "deb ${options}${uri} $1 main"
}

# Fills SUITE_OPTIONS with the options that make apt see suite $1 alone and an
# empty system, all its state below the cache.
suite_options() {
    local state=$CACHE/apt/$1
    mkdir -p "$state"/{lists/partial,archives/partial}
    : >"$state/status"
    [[ -s $state/sources.list ]] || suite_line "$1" >"$state/sources.list"
    SUITE_OPTIONS=(
        -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status"
        -o Dir::Cache="$state" -o Dir::Cache::Archives="$state/archives"
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3
        -o APT::Update::Post-Invoke::= -o APT::Update::Post-Invoke-Success::=
        # A suite that moved to the archive keeps an expired date for ever.
        -o Acquire::Check-Valid-Until=false
    )
}

# Waits until nobody else fetches from suite $1, and keeps others waiting until suite_unlock.
suite_lock() {
    mkdir -p "$CACHE/apt/$1"
    exec 7>"$CACHE/apt/$1/lock"
    flock 7
}

suite_unlock() {
    exec 7>&-
}

# Brings the package list of suite $1 up to date.
suite_update() {
    suite_lock "$1"
    suite_options "$1"
    quietly apt-get "${SUITE_OPTIONS[@]}" update ||
        { rm -f "$CACHE/apt/$1/sources.list"; die "cannot read the package list of Debian $1" "is the network up?"; }
    suite_unlock
}

# Prints package $2 of suite $1 and those it depends on whose names match the
# regular expression $3.
suite_closure() {
    suite_options "$1"
    apt-cache "${SUITE_OPTIONS[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances "$2" |
        awk -v package="$2" -v wanted="^($3)\$" '$0 == package || $0 ~ wanted' | sort -u
}

# Unpacks packages $3... of suite $1 into folder $2.
suite_unpack() {
    local suite=$1 folder=$2 archives=$CACHE/apt/$1/archives deb
    shift 2
    suite_lock "$suite"
    suite_options "$suite"
    rm -f "$archives"/*.deb
    (cd "$archives" && quietly apt-get "${SUITE_OPTIONS[@]}" download "$@") ||
        die "cannot fetch from Debian $suite: $*" "is the network up?"
    mkdir -p "$folder"
    for deb in "$archives"/*.deb; do
        dpkg -x "$deb" "$folder"
    done
    rm -f "$archives"/*.deb
    suite_unlock
}
