#!/bin/bash
# A program that uses a mount while its daemon comes and goes: load.sh DIR NOTES, until NOTES/over is there.
#
# It writes numbered lines by one handle, syncs each, and reads by another that it has open all the time. NOTES/acked has the
# lines whose sync was acknowledged, NOTES/errors what it met.
dir=$1 notes=$2
exec 3>>"$dir/load" 4<"$dir/lines" || exit 1
number=0 expected=1
until [ -e "$notes/over" ]; do
    number=$((number + 1))
    if { printf '%08d\n' $number >&3 && sync "$dir/load"; } 2>>"$notes/errors"; then
        printf '%08d\n' $number >>"$notes/acked"
    else
        exec 3>>"$dir/load" || exit 1
    fi
    if read -r -u 4 line; then
        [ "$line" = "$expected" ] || echo "read $line instead of $expected" >>"$notes/errors"
        expected=$((expected + 1))
    fi
done
