# Servers that cannot outlive their caller, and the lines by which it drives them.
#
#   caller ── pipe ──► guard ── fifo ──► supervisor ──► server, server, ...
#                        │                └──────── one process group ────┘
#                        └─ at the end of the pipe: kill -9 of that group, then its folder goes
#
# The guard does nothing but pass lines on, so the end of its input is seen at once, also while the
# supervisor waits for a server. It has a session of its own: Ctrl-C does not reach it. If the guard
# itself is killed, the supervisor's input ends and the supervisor cleans up; if that is killed, too,
# the kernel ends the servers with it (setpriv --pdeathsig).
#
# Protocol. Commands are lines, and so are the answers: `key value` lines, `log` lines of a server
# that failed, and last exactly one of
#     ok
#     error TEXT             the command failed
#     unavailable TEXT       the server's program is not on this machine
# The first answer comes by itself when the servers are ready.


readonly GUARD_PATIENCE=50 # tenths of a second until killed processes are gone

guard() { # KIND ARGUMENTS...
  local line
  sweep_stale
  run=$(mktemp -d "$(runs)/icecore-services.XXXXXX")
  exec {held}>"$run/held"
  flock "$held"
  mkfifo "$run/commands"
  trap 'leave 143' TERM INT HUP
  set -m # the next job gets a process group of its own
  supervise "$@" <"$run/commands" &
  supervisor=$!
  set +m
  exec {commands}>"$run/commands"
  while IFS= read -r line; do
    case $line in
      "group "*) group=${line#group } ;; # one more process group that is to end with the caller
      *) printf '%s\n' "$line" >&"$commands" || break ;;
    esac
  done
  leave 0
}

leave() { # STATUS
  local tries=0
  trap '' TERM INT HUP PIPE
  [ -z "${group:-}" ] || kill -KILL -- "-$group" 2>/dev/null || true
  disown "$supervisor" 2>/dev/null || true # no word on how it ended
  kill -KILL -- "-$supervisor" 2>/dev/null || true
  while group_lives "$supervisor" && [ "$((tries++))" -lt "$GUARD_PATIENCE" ]; do sleep 0.1; done
  rm -rf "$run" || { sleep 1; rm -rf "$run"; }
  exit "$1"
}

# Whether anything in a process group still runs; what is dead but not yet reaped does not count.
group_lives() { # GROUP
  local stat line words
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    read -ra words <<<"${line##*) }" # state, parent, group, after a name that may hold anything
    [ "${words[2]:-}" != "$1" ] || [ "${words[0]}" = Z ] || return 0
  done
  return 1
}

runs() { printf '%s' "${ICECORE_SERVICES_DIR:-${TMPDIR:-/tmp}}"; }

# Folders whose guard was killed together with everything else: nobody holds them any more.
sweep_stale() {
  local old lock
  while IFS= read -r old; do
    exec {lock}>>"$old/held" || continue
    if flock -n "$lock"; then rm -rf "$old"; fi
    exec {lock}>&-
  done < <(find "$(runs)" -maxdepth 1 -name 'icecore-services.*' -user "$(id -u)" -mmin +10 2>/dev/null)
}

# What serves the lines. Every server that it starts is in its process group.
supervise() { # KIND ARGUMENTS...
  local kind=$1 line words
  shift
  trap - TERM INT HUP
  printf 'folder %s\n' "$run"
  case $kind in nothing | s3 | hdfs | kafka) ;; *) printf "error there is no server of the kind '%s'\n" "$kind"; return ;; esac
  "${kind}_launch" "$@"
  while IFS= read -r line; do
    read -ra words <<<"$line"
    "${kind}_command" "${words[@]}"
  done
}

nothing_launch() { answer_ok; }
nothing_command() { answer_error "there is no server"; }

answer_ok() { echo ok; }
answer_error() { printf 'error %s\n' "$*"; }

declare -A server_pid=()

# launch NAME COMMAND...: starts it with its output in $run/NAME.log.
launch() {
  local name=$1
  shift
  if command -v setpriv >/dev/null; then set -- setpriv --pdeathsig KILL "$@"; fi
  "$@" </dev/null >>"$run/$name.log" 2>&1 &
  server_pid[$name]=$!
}

alive() { [ -n "${server_pid[$1]:-}" ] && kill -0 "${server_pid[$1]}" 2>/dev/null; }

# end NAME SIGNAL: returns when it is gone.
end() {
  local pid=${server_pid[$1]:-}
  [ -n "$pid" ] || return 0
  kill "-$2" "$pid" 2>/dev/null || true
  kill -CONT "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  unset "server_pid[$1]"
}

log_tail() { # NAME
  tail -n 25 "$run/$1.log" 2>/dev/null | while IFS= read -r line; do printf 'log %s: %s\n' "$1" "$line"; done
}

# await SECONDS NAME TEST...: waits until TEST passes, but no longer than NAME lives or SECONDS.
await() {
  local until=$((SECONDS + $1)) name=$2
  shift 2
  until "$@"; do
    [ "$name" = - ] || alive "$name" || return 1
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep 0.1
  done
}

# A port that is free and stays ours as long as this process, or a server that it started, lives: a
# lock keeps other supervisors off, and the range lies below the one of outgoing connections (Linux:
# 32768 and up), so that a restarted server finds its port again. Sets `port`.
readonly PORTS_FROM=23000 PORTS=2000
reserve_port() {
  local lock tries
  mkdir -p "$services/ports"
  for ((tries = 0; tries < PORTS; tries++)); do
    port=$((PORTS_FROM + RANDOM % PORTS))
    exec {lock}>"$services/ports/$port"
    if flock -n "$lock" && ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
    exec {lock}>&-
  done
  return 1
}

http_get() { # PORT PATH
  timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" "$1" >&3 && cat <&3' "$1" "$2" 2>/dev/null
}
