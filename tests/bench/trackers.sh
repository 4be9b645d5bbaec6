#!/usr/bin/env bash
# Our tracker beside opentracker (Debian's package): announces a second by UDP and by HTTP, in turns; then
# the memory of a million peers. By UDP the tracker has one core and the load the other. By HTTP both
# share one core: with a core of its own the load, which costs more than either tracker, would be what is
# measured, and the trackers would be idle for a third of the time.
#
#     tests/bench/trackers.sh ROPEWALK LOAD [turns]
#
# ROPEWALK is the release binary, LOAD the program of tests/bench/tracker_load.rs. Everything stays on
# the loopback, and everything that is started here is ended here. Needs two cores; opentracker changes
# its user and its root folder, so this runs as root.
set -euo pipefail
ropewalk=$(realpath "$1") load=$(realpath "$2") turns=${3:-3}
udp_announces=${UDP_ANNOUNCES:-400000} http_announces=${HTTP_ANNOUNCES:-20000} torrents=${TORRENTS:-10000}
desk=$(mktemp -d)
chmod 755 "$desk"
running=
finish() {
  [ -z "$running" ] || kill "$running" 2>/dev/null || true
  rm -rf "$desk"
}
trap finish EXIT

# begin NAME: starts a tracker on port 46969 and waits until it answers.
begin() {
  case $1 in
    ropewalk)
      taskset -c 0 "$ropewalk" tracker -q --http 127.0.0.1:46969 --udp 127.0.0.1:46969 --max-per-ip 0 &
      ;;
    opentracker)
      "$load" hashes "$torrents" >"$desk/whitelist"
      (cd "$desk" && exec taskset -c 0 opentracker -i 127.0.0.1 -p 46969 -P 46969 -d "$desk" -w whitelist) &
      ;;
  esac
  running=$!
  for _ in $(seq 100); do
    if (exec 3<>/dev/tcp/127.0.0.1/46969) 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  echo "$1 does not answer" >&2
  return 1
}

end() {
  kill "$running" 2>/dev/null || true
  wait "$running" 2>/dev/null || true
  running=
}

# cpu: milliseconds of processor time the tracker has used.
cpu() { cat "/proc/$running"/task/*/schedstat | awk '{ns += $1} END {printf "%d", ns / 1000000}'; }

for turn in $(seq "$turns"); do
  for tracker in ropewalk opentracker; do
    begin "$tracker"
    before=$(cpu)
    said=$(taskset -c 1 timeout 60 "$load" udp 127.0.0.1:46969 "$udp_announces" "$torrents" 64)
    between=$(cpu)
    echo "$turn $tracker $said; CPU $(( between - before )) ms"
    said=$(taskset -c 0 timeout 60 "$load" http 127.0.0.1:46969 "$http_announces" "$torrents" 64)
    echo "$turn $tracker $said; CPU $(( $(cpu) - between )) ms"
    end
  done
done

begin ropewalk
"$load" fill 127.0.0.1:46969 "${FILL:-1000000}" 100000
exec 3<>/dev/tcp/127.0.0.1/46969
printf 'GET /stats HTTP/1.0\r\n\r\n' >&3
grep -E '^(torrents|peers) ' <&3
grep -E 'VmHWM|VmRSS' "/proc/$running/status"
end
