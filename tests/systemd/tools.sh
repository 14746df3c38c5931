# What the walks through a systemd of a test have in common; to be sourced.
#
# $leader is the process id of that systemd, $patience how many seconds one command may take there. tell_more shows what
# helps to understand a failure.

step() { echo "--- $*"; }

fail() {
    echo "FAILED: $*" >&2
    tell_more >&2
    exit 1
}

# Runs a command where the systemd of the test rules.
inside() { timeout --kill-after=5 "$patience" nsenter -t "$leader" -a -- "$@"; }

must() { inside "$@" || fail "$*"; }

must_not() { ! inside "$@" 2>/dev/null || fail "$* has succeeded"; }

# Waits until a condition holds.
until_holds() {
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "$* does not come to hold"
}
