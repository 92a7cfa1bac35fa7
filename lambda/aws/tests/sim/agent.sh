#!/bin/sh
# Stands in for the agent: keeps its freeze in files below $STUB and answers as agent/protocol says. A file $STUB/VERB.out is
# printed instead (ID and BODY filled in); $STUB/VERB.sleep is waited for first.
verb=$1
shift
id= by= hold=60000 not_after=
while [ $# -gt 0 ]; do
  case $1 in
    --id) id=$2; shift ;;
    --by) by=$2; shift ;;
    --hold) hold=${2%ms}; shift ;;
    --not-after) not_after=$2; shift ;;
  esac
  shift
done
now() { date +%s%3N; }
say() {
  printf '%s\n' "$2"
  printf 'SNAPFREEZE {"schema":1,"type":"%s","id":"%s","body":"%s"}\n' "$1" "$id" "$(printf %s "$2" | sha256sum | cut -d' ' -f1)"
}
problem() {
  printf 'SNAPFREEZE {"schema":1,"type":"problem","id":"%s","code":"%s","detail":"%s"}\n' "$id" "$1" "$2"
  exit "$3"
}
echo "$verb $id $(now)" >> "$STUB/asked"
if [ -e "$STUB/$verb.sleep" ]; then sleep "$(cat "$STUB/$verb.sleep")"; fi
if [ -e "$STUB/$verb.out" ]; then
  sed "s/@ID@/$id/g" "$STUB/$verb.out"
  exit "$(cat "$STUB/$verb.rc" 2>/dev/null || echo 0)"
fi
case $verb in
  facts)
    say facts "{\"schema\":1,\"type\":\"facts\",\"agent_version\":\"0.1.0\",\"host\":\"$STUB_HOST\",\"now\":$(now),\
\"phase\":\"idle\",\"left_frozen\":false,\"largest_hold_ms\":1179000,\"instances\":[{\"instance\":\"IRIS\",\
\"engine\":\"iris\",\"engine_version\":\"2025.1\",\"frozen\":\"no\"}],\"volumes\":[{\"volume\":\"$STUB_VOLUME\",\
\"device\":\"/dev/nvme1n1\",\"mounts\":[\"/data\"],\"roles\":[\"data\"]}],\"problems\":[]}"
    ;;
  freeze)
    if [ "$(now)" -gt "$not_after" ]; then problem Freeze.Refused.Late "too late" 4; fi
    if [ -e "$STUB/refused.$id" ]; then problem Freeze.Refused.UsedId "thawed already" 4; fi
    now > "$STUB/frozen"
    echo frozen > "$STUB/state"
    say freeze "{\"schema\":1,\"type\":\"freeze\",\"id\":\"$id\",\"remaining_ms\":$hold,\"frozen_at\":$(now),\"freeze_ms\":5,\
\"instances\":[{\"instance\":\"IRIS\",\"marks\":[{\"switched\":\"/jrn/20261126.001\",\"required\":null,\"offset\":7}]}],\
\"warnings\":[],\"by\":\"$by\",\"sync_ms\":3}"
    ;;
  thaw)
    touch "$STUB/refused.$id"
    if [ ! -e "$STUB/frozen" ]; then problem Thaw.UnknownId "no such freeze" 4; fi
    if [ ! -e "$STUB/window" ]; then
      at=$(cat "$STUB/frozen")
      echo "{\"schema\":1,\"type\":\"window\",\"backup_id\":\"$id\",\"state\":{\"state\":\"unbroken\"},\"frozen_at\":$at,\
\"thawed_at\":$(now),\"window_ms\":$(($(now) - at + 5)),\"parts\":[],\"marks\":[],\"evidence\":[]}" > "$STUB/window"
    fi
    echo thawed > "$STUB/state"
    say window "$(cat "$STUB/window")"
    ;;
  *) echo "no such verb" >&2; exit 2 ;;
esac
