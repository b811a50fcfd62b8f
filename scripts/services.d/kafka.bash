# Kafka: one broker that is its own controller (KRaft). It survives kill -9 without losing what it acknowledged.
# Transactions work; topics are made on purpose only, by a client.

readonly KAFKA_PATIENCE=60 # seconds until it must answer, on a machine that may be busy
readonly KAFKA_ATTEMPTS=3  # times that ports may turn out to be taken
readonly KAFKA_JVM=(-Xms128m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto)
readonly KAFKA_CLUSTER=aWNlY29yZS10ZXN0LWthZg # 16 bytes, base64url without padding

# A dead broker is noticed after 1.5 s; nothing waits for other replicas, as there are none.
kafka_properties() {
  cat <<TEXT
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$kafka_controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$kafka_controller
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$run/kafka
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
TEXT
}

kafka_log_settings() {
  cat <<'TEXT'
status=error
appenders=console
appender.console.type=Console
appender.console.name=console
appender.console.target=SYSTEM_ERR
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{HH:mm:ss,SSS} %p %c{1}: %m%n
rootLogger.level=WARN
rootLogger.appenderRefs=console
rootLogger.appenderRef.console.ref=console
TEXT
}

kafka_java() { # MAIN-CLASS-AND-ARGUMENTS...: the words of a command, each ended by a zero
  local jars shared=()
  printf -v jars '%s:' "$kafka"/lib/*.jar
  [ ! -f "$kafka_start/classes.jsa" ] || shared=("-XX:SharedArchiveFile=$kafka_start/classes.jsa")
  printf '%s\0' java "${KAFKA_JVM[@]}" "${shared[@]}" "-Dlog4j2.configurationFile=$run/kafka.log4j2.properties" -cp "${jars%:}" "$@"
}

kafka_launch() {
  local attempt
  command -v java >/dev/null || { echo "unavailable Java is not on this machine (17 or newer is needed)"; return; }
  [ -d "$kafka/lib" ] || { echo "unavailable Kafka is not in the cache; to have it, once: scripts/services fetch kafka"; return; }
  for ((attempt = 1; attempt <= KAFKA_ATTEMPTS; attempt++)); do
    if kafka_prepare && kafka_start_broker; then
      printf 'bootstrap 127.0.0.1:%s\ndata %s\n' "$kafka_port" "$run/kafka"
      answer_ok
      return
    fi
    end kafka KILL
    grep -qi 'address already in use' "$run/kafka.log" || break
  done
  log_tail kafka
  answer_error "Kafka did not start (log: $run/kafka.log)"
}

# Ports, settings, and a formatted folder.
kafka_prepare() {
  local command
  reserve_port && kafka_port=$port && reserve_port && kafka_controller=$port || return 1
  rm -rf "$run/kafka"
  kafka_log_settings >"$run/kafka.log4j2.properties"
  kafka_properties >"$run/kafka.properties"
  mapfile -d '' command < <(kafka_java kafka.tools.StorageTool format -t "$KAFKA_CLUSTER" -c "$run/kafka.properties" --ignore-formatted)
  "${command[@]}" </dev/null >>"$run/kafka.log" 2>&1
}

kafka_start_broker() { # [OPTION]
  local command
  mapfile -d '' command < <(kafka_java kafka.Kafka "$run/kafka.properties")
  launch kafka "${command[0]}" ${1:+"$1"} "${command[@]:1}"
  await "$KAFKA_PATIENCE" kafka kafka_answers
}

# ApiVersions (key 18, version 0), correlation 7, no client id: a broker that serves answers with the same
# correlation and without an error.
kafka_answers() {
  local answer
  answer=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "\0\0\0\12\0\22\0\0\0\0\0\7\377\377" >&3 && head -c 10 <&3 | od -An -tx1 -j4 | tr -d " \n"' "$kafka_port" 2>/dev/null)
  [ "$answer" = 000000070000 ]
}

# The broker's classes, parsed and checked: half the time until it is ready. Depends on this machine's Java; without
# it all works, slower.
kafka_prepare_start() { # FOLDER
  run=$1
  say "preparing Kafka's start: once, under a minute"
  kafka_prepare && kafka_start_broker "-XX:ArchiveClassesAtExit=$run/classes.jsa" || { log_tail kafka >&2; end kafka KILL; return 1; }
  end kafka TERM
  rm -rf "$run/kafka" "$run"/kafka.*
  [ -f "$run/classes.jsa" ]
}

kafka_command() {
  case $1 in
    kill) end kafka KILL; answer_ok ;;
    start)
      alive kafka && { answer_error "the broker runs already"; return; }
      if kafka_start_broker; then answer_ok; else log_tail kafka; answer_error "the broker did not start again"; fi ;;
    pause) kill -STOP "${server_pid[kafka]}"; answer_ok ;;
    resume) kill -CONT "${server_pid[kafka]}"; answer_ok ;;
    *) answer_error "Kafka knows kill, start, pause, resume; not '$*'" ;;
  esac
}
