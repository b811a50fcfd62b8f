# Kafka: one broker, and its controller (KRaft) in a process of its own. It survives kill -9 without losing what it
# acknowledged. Transactions work; topics are made on purpose only, by a client.
#
# Why two processes: a broker that is killed between a transaction's commit and its markers writes these when it is
# back. One that is its own controller then leads its partitions, for a second, without their leader being known; Kafka
# 4.4 takes those partitions for deleted ones, and counts the transaction as complete without markers. What it wrote is
# undecided for ever (seen in half of such crashes). So a broker must be known to be gone before it comes back.

readonly KAFKA_PATIENCE=60 # seconds until it must answer, on a machine that may be busy
readonly KAFKA_ATTEMPTS=3  # times that ports may turn out to be taken
readonly KAFKA_FORGOTTEN=2 # seconds after which the controller has given a dead broker up: its session and a margin
readonly KAFKA_JVM=(-Xms64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto)
readonly -A KAFKA_HEAP=([controller]=128m [broker]=384m)
readonly KAFKA_CLUSTER=aWNlY29yZS10ZXN0LWthZg # 16 bytes, base64url without padding

# A dead broker is noticed after 1.5 s; nothing waits for other replicas, as there are none.
kafka_common_properties() {
  cat <<TEXT
controller.quorum.voters=1@127.0.0.1:$kafka_controller
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
TEXT
}

kafka_controller_properties() {
  kafka_common_properties
  cat <<TEXT
process.roles=controller
node.id=1
listeners=CONTROLLER://127.0.0.1:$kafka_controller
log.dirs=$run/kafka-controller
TEXT
}

kafka_broker_properties() {
  kafka_common_properties
  cat <<TEXT
process.roles=broker
node.id=2
listeners=PLAINTEXT://127.0.0.1:$kafka_port
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port
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

kafka_java() { # controller|broker MAIN-CLASS-AND-ARGUMENTS...: the words of a command, each ended by a zero
  local jars shared=() heap=${KAFKA_HEAP[$1]}
  shift
  printf -v jars '%s:' "$kafka"/lib/*.jar
  [ ! -f "$kafka_start/classes.jsa" ] || shared=("-XX:SharedArchiveFile=$kafka_start/classes.jsa")
  printf '%s\0' java "${KAFKA_JVM[@]}" "-Xmx$heap" "${shared[@]}" "-Dlog4j2.configurationFile=$run/kafka.log4j2.properties" -cp "${jars%:}" "$@"
}

kafka_launch() {
  local attempt
  command -v java >/dev/null || { echo "unavailable Java is not on this machine (17 or newer is needed)"; return; }
  [ -d "$kafka/lib" ] || { echo "unavailable Kafka is not in the cache; to have it, once: scripts/services fetch kafka"; return; }
  for ((attempt = 1; attempt <= KAFKA_ATTEMPTS; attempt++)); do
    if kafka_prepare && kafka_start_controller && kafka_start_broker; then
      printf 'bootstrap 127.0.0.1:%s\ndata %s\n' "$kafka_port" "$run/kafka"
      answer_ok
      return
    fi
    end kafka KILL
    end kafka-controller KILL
    grep -qi 'address already in use' "$run"/kafka*.log || break
  done
  log_tail kafka-controller
  log_tail kafka
  answer_error "Kafka did not start (log: $run/kafka.log)"
}

# Ports, settings, and formatted folders.
kafka_prepare() {
  reserve_port && kafka_port=$port && reserve_port && kafka_controller=$port || return 1
  rm -rf "$run/kafka" "$run/kafka-controller"
  kafka_log_settings >"$run/kafka.log4j2.properties"
  kafka_controller_properties >"$run/kafka-controller.properties"
  kafka_broker_properties >"$run/kafka.properties"
  kafka_format kafka-controller && kafka_format kafka
}

kafka_format() { # NAME
  local command
  mapfile -d '' command < <(kafka_java controller kafka.tools.StorageTool format -t "$KAFKA_CLUSTER" -c "$run/$1.properties" --ignore-formatted)
  "${command[@]}" </dev/null >>"$run/$1.log" 2>&1
}

kafka_start_controller() {
  local command
  mapfile -d '' command < <(kafka_java controller kafka.Kafka "$run/kafka-controller.properties")
  launch kafka-controller "${command[@]}"
}

kafka_start_broker() { # [OPTION]
  local command
  mapfile -d '' command < <(kafka_java broker kafka.Kafka "$run/kafka.properties")
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
  if ! kafka_prepare || ! kafka_start_controller || ! kafka_start_broker "-XX:ArchiveClassesAtExit=$run/classes.jsa"; then
    log_tail kafka-controller >&2
    log_tail kafka >&2
    end kafka KILL
    end kafka-controller KILL
    return 1
  fi
  end kafka TERM
  end kafka-controller KILL
  rm -rf "$run"/kafka*
  [ -f "$run/classes.jsa" ]
}

kafka_command() {
  case $1 in
    kill) end kafka KILL; kafka_died=$SECONDS; answer_ok ;;
    start)
      alive kafka && { answer_error "the broker runs already"; return; }
      while [ $((SECONDS - ${kafka_died:--9})) -le "$KAFKA_FORGOTTEN" ]; do sleep 0.1; done
      if kafka_start_broker; then answer_ok; else log_tail kafka; answer_error "the broker did not start again"; fi ;;
    pause) kill -STOP "${server_pid[kafka]}"; answer_ok ;;
    resume) kill -CONT "${server_pid[kafka]}"; answer_ok ;;
    *) answer_error "Kafka knows kill, start, pause, resume; not '$*'" ;;
  esac
}
