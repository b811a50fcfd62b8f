# Servers for a command (the tests) or a person, for as long as that lasts.

readonly RUN_PATIENCE=5 # seconds that a command gets to end after TERM

# pipe: makes one, its ends in `pipe_to` and `pipe_from`. Who starts a process closes `pipe_to` there, or
# the pipe would not end with us.
pipe() {
  local name
  name=$(mktemp -u "${TMPDIR:-/tmp}/icecore-pipe.XXXXXX")
  mkfifo -m 600 "$name"
  exec {pipe_to}<>"$name" {pipe_from}<"$name"
  rm "$name"
}

declare -A hold_to=() hold_from=() server=()

# hold KIND ARGUMENTS...: a server that lives as long as this process.
hold() {
  local answers kind=$1
  pipe
  exec {answers}< <(closing_holds; exec {pipe_to}>&-; exec "$script" serve "$@" <&"$pipe_from")
  exec {pipe_from}<&-
  hold_to[$kind]=$pipe_to hold_from[$kind]=$answers
}

closing_holds() {
  local fd
  for fd in "${hold_to[@]}" "${hold_from[@]}"; do exec {fd}>&-; done
}

# await_held KIND: reads what it says when it is ready into server[KIND.KEY]. With CI set, a server that
# cannot be had is an error.
await_held() {
  local line kind=$1
  while IFS= read -r line <&"${hold_from[$kind]}"; do
    case $line in
      ok) return 0 ;;
      "error "* | "unavailable "*) say "$kind: ${line#* }"; return 1 ;;
      "log "*) say "$line" ;;
      *) server[$kind.${line%% *}]=${line#* } ;;
    esac
  done
  say "$kind: ended before it was ready"
  return 1
}

release() { # KIND
  [ -n "${hold_to[$1]:-}" ] || return 0
  local fd=${hold_to[$1]}
  exec {fd}>&-
  fd=${hold_from[$1]}
  while read -r -t "$RUN_PATIENCE" _ <&"$fd"; do :; done # until it has cleaned up
  exec {fd}<&-
  unset "hold_to[$1]" "hold_from[$1]"
}

release_all() { local kind; for kind in "${!hold_to[@]}"; do release "$kind"; done; }

export_addresses() {
  if [ -n "${server[s3.endpoint]:-}" ]; then
    export ICECORE_TEST_S3_ENDPOINT=${server[s3.endpoint]} ICECORE_TEST_S3_BUCKET=${server[s3.bucket]} \
      ICECORE_TEST_S3_REGION=${server[s3.region]} ICECORE_TEST_S3_ACCESS_KEY=${server[s3.access_key]} \
      ICECORE_TEST_S3_SECRET_KEY=${server[s3.secret_key]}
  fi
  [ -z "${server[hdfs.url]:-}" ] || export ICECORE_TEST_HDFS=${server[hdfs.url]} ICECORE_TEST_HDFS_CONFIGURATION=${server[hdfs.configuration]} \
    ICECORE_TEST_HDFS_JARS=$hadoop/lib
  [ -z "${server[kafka.bootstrap]:-}" ] || export ICECORE_TEST_KAFKA=${server[kafka.bootstrap]}
  [ ! -e "$s5cmd" ] || export ICECORE_TEST_S5CMD=$s5cmd
}

run() { # [s3] [hdfs] [kafka] -- COMMAND...
  local kinds=() kind status=0
  while [ $# -gt 0 ] && [ "$1" != -- ]; do kinds+=("$1"); shift; done
  [ $# -gt 1 ] || { usage >&2; exit 2; }
  shift
  command=
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM HUP
  hold nothing
  for kind in "${kinds[@]}"; do
    case $kind in s3 | hdfs | kafka) hold "$kind" ;; *) say "run: there is no '$kind'; there are s3, hdfs, kafka"; exit 2 ;; esac
  done
  for kind in nothing "${kinds[@]}"; do
    if ! await_held "$kind"; then
      [ -z "${CI:-}" ] || { release_all; exit 1; }
      release "$kind"
    fi
  done
  export_addresses
  # In a process group of its own, of which the guard knows before the command is started.
  pipe
  set -m
  (closing_holds; exec {pipe_to}>&-; read -r _ <&"$pipe_from" || exit 1; exec {pipe_from}<&-; exec "$@") </dev/null &
  command=$!
  set +m
  echo "group $command" >&"${hold_to[nothing]}"
  echo go >&"$pipe_to"
  exec {pipe_to}>&- {pipe_from}<&-
  wait "$command" || status=$?
  release_all
  exit "$status"
}

interrupted() { # STATUS
  trap '' INT TERM HUP
  if [ -n "$command" ]; then
    local until=$((SECONDS + RUN_PATIENCE))
    kill -TERM -- "-$command" 2>/dev/null || true
    while kill -0 "$command" 2>/dev/null && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
  fi
  release_all # the guard of `nothing` kills what is left of the command
  exit "$1"
}

start() { # [s3] [hdfs] [kafka]
  local kind kinds=() wanted=("$@") line
  [ ${#wanted[@]} -gt 0 ] || wanted=(s3 hdfs)
  command=
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM HUP
  for kind in "${wanted[@]}"; do
    case $kind in s3 | hdfs | kafka) ;; *) say "start: there is no '$kind'; there are s3, hdfs, kafka"; exit 2 ;; esac
    if (fetch_all "$kind"); then kinds+=("$kind"); hold "$kind"; fi
  done
  [ ${#kinds[@]} -gt 0 ] || exit 1
  say "starting ${kinds[*]}: a second for S3, 10 to 60 for HDFS, 3 to 10 for Kafka"
  for kind in "${kinds[@]}"; do
    await_held "$kind" || { release_all; exit 1; }
    "show_$kind"
  done
  echo "# Running. Ctrl-C stops them and removes what they keep."
  # One that ends by itself is told; otherwise this waits for a signal.
  while IFS= read -r line <&"${hold_from[${kinds[0]}]}"; do :; done
  say "${kinds[0]} ended by itself"
  release_all
  exit 1
}

show_s3() {
  cat <<TEXT

# S3 (versitygw), data in ${server[s3.data]}
export AWS_ACCESS_KEY_ID=${server[s3.access_key]} AWS_SECRET_ACCESS_KEY=${server[s3.secret_key]} AWS_REGION=${server[s3.region]}
export AWS_ENDPOINT_URL=${server[s3.endpoint]}
icecore --store s3://${server[s3.bucket]}/try --store-option endpoint=${server[s3.endpoint]} list

TEXT
}

show_hdfs() {
  cat <<TEXT

# HDFS (Hadoop $HADOOP_VERSION), NameNode's pages: http://${server[hdfs.http]}/jmx
export HADOOP_CONF_DIR=${server[hdfs.configuration]}
icecore --store ${server[hdfs.url]}/try list

TEXT
}

show_kafka() {
  cat <<TEXT

# Kafka $KAFKA_VERSION, data in ${server[kafka.data]}
export KAFKA_BOOTSTRAP_SERVERS=${server[kafka.bootstrap]}
TEXT
}
