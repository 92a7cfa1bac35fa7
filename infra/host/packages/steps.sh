# What deb and rpm do alike. The build puts this in front of each maintainer script, together with `set -e`.

say() { echo "snapfreeze: $*" >&2; }

systemd_runs() { [ -d /run/systemd/system ]; }

# Thaws what snapfreeze itself holds and waits for the engine's "not frozen"; without it, `$1` (upgrade, removal) is refused.
# With none open nothing is thawed: what another tool froze is left alone. A freeze that is asked for between this and the
# restart (or the stop) is thawed by that.
thaw_first() {
    [ -x /usr/bin/snapfreeze ] || return 0
    said=$(/usr/bin/snapfreeze status --json </dev/null 2>/dev/null) || :
    case $said in
        *'"type":"open"'*) ;; # no agent, but its journal names a freeze that was never ended
        *'"phase":"idle"'*) return 0 ;;
        *'"phase":'*) ;;
        *'"schema":'*) return 0 ;; # no agent, and nothing open in its journal
        *) # A program that does not run cannot thaw either; the next one takes the freeze up from the journal and thaws.
            say "the installed program does not run, so nobody knows whether it holds a freeze: ask the database itself"
            return 0
            ;;
    esac
    say "a freeze is open: thawing it before the $1"
    code=0
    /usr/bin/snapfreeze thaw </dev/null >&2 || code=$?
    [ "$code" = 0 ] && return 0
    say "the $1 is REFUSED: nobody confirmed that the database is not frozen (exit $code). Run 'sudo snapfreeze thaw' until it says" \
        "'writes resumed', then try again. Nothing was changed."
    exit 1
}

make_group_and_directories() {
    systemd-sysusers snapfreeze.conf 2>/dev/null || getent group snapfreeze >/dev/null || groupadd --system snapfreeze
    if systemd_runs; then systemd-tmpfiles --create snapfreeze.conf || say "systemd-tmpfiles failed; the next boot repeats it"; fi
}

# A restart thaws first, too (the service manager sends SIGTERM and waits).
start_or_restart() {
    if ! systemd_runs; then
        say "no systemd runs here: nothing was started or restarted"
        return 0
    fi
    systemctl daemon-reload
    if [ "$1" = upgrade ]; then systemctl try-restart snapfreeze.service
    else systemctl start snapfreeze.socket snapfreeze.service; fi ||
        say "the agent did not start: look at 'journalctl -u snapfreeze' and run 'snapfreeze check'"
}

stop_everything() {
    if systemd_runs; then
        systemctl stop snapfreeze-backup.timer snapfreeze-prune.timer snapfreeze-rehearse.timer snapfreeze-journals.timer snapfreeze-sentinel.timer snapfreeze-drill.timer snapfreeze.socket snapfreeze.service
    else say "no systemd runs here: stop the agent by hand (SIGTERM)"; fi
}
