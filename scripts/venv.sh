# shellcheck shell=bash
# Sourced by the other scripts: makes .venv in the repository and keeps it up to date.
# Sets root (the repository) and leaves the caller's folder as it is.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Print a Python of 3.11 or later. Each one is tried: a version manager's stand-in may lead nowhere.
find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' &>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "streamapp needs Python 3.11 or later, and none is on the PATH. Install it, then try again."
}

# ensure_venv [EXTRA]: install the package, editable, unless it is: this pyproject.toml, and what is compiled.
ensure_venv() {
    local extra=${1:-} stamp=$venv/installed python="" wanted log status
    wanted="$root $(cat "$root/pyproject.toml" "$root/setup.py" "$root"/streamapp/serde/*.p[xy]? "$root"/streamapp/transport/kafka/*.pyx | cksum) $extra"
    # What was installed with an extra also serves without it.
    if [[ -x $venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted"* ]]; then
        return
    fi
    if [[ ! -x $venv/bin/python ]]; then
        python=$(find_python) || exit
    fi
    echo "Installing into .venv (once; a minute or so) ..." >&2
    if [[ -n $python ]]; then
        "$python" -m venv --clear "$venv" >&2 ||
            die "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    log=$(mktemp)
    status=0
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
        --editable "$root${extra:+[$extra]}" >"$log" 2>&1 || status=$?
    ((status == 0)) || cat "$log" >&2
    rm -f "$log"
    ((status == 0)) || die "The installation failed; the lines above say why."
    echo "$wanted" >"$stamp"
}
