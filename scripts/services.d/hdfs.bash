# HDFS: one NameNode and some DataNodes, each a JVM of its own, so that one can be killed.

readonly HDFS_PATIENCE=180    # seconds until a NameNode or a DataNode must be ready
readonly HDFS_ATTEMPTS=3      # times that ports may turn out to be taken
readonly HDFS_DATANODES_MAX=9
readonly JVM=(-Xmx256m -Xss512k -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.net.preferIPv4Stack=true)
readonly HDFS_NODE=org.apache.hadoop.hdfs.server

# What a cluster has on its class path besides the jars: see `hdfs_site`, and how to log. The jars lack the
# web pages' folders, without which a NameNode does not start.
hdfs_configuration() { # FOLDER
  local page
  for page in hdfs datanode; do
    mkdir -p "$1/webapps/$page/WEB-INF"
    echo '<web-app version="2.4"/>' >"$1/webapps/$page/WEB-INF/web.xml"
  done
  cat >"$1/log4j.properties" <<'LOG'
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{HH:mm:ss,SSS} %p %c{1}: %m%n
log4j.logger.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=WARN
log4j.logger.BlockStateChange=WARN
log4j.logger.org.apache.hadoop.hdfs.StateChange=WARN
log4j.logger.org.eclipse.jetty=WARN
LOG
}

hdfs_properties() { # KEY=VALUE...
  local pair
  echo '<configuration>'
  for pair in "$@"; do printf '<property><name>%s</name><value>%s</value></property>\n' "${pair%%=*}" "${pair#*=}"; done
  echo '</configuration>'
}

# The site files, for the servers and for clients (HADOOP_CONF_DIR). A DataNode is known by the name
# 127.0.0.2, too: nothing listens there, so that a test can put a proxy between it and a client that goes
# by names (dfs.client.use.datanode.hostname).
# A NameNode sets a whole block aside for each file being written, and for minutes after one was given up: small
# blocks, or the tests want many GiB free.
hdfs_site() {
  local replication=$((hdfs_datanodes < 2 ? hdfs_datanodes : 2))
  hdfs_properties "fs.defaultFS=hdfs://127.0.0.1:$hdfs_port" hadoop.security.authentication=simple \
    "hadoop.tmp.dir=$run/tmp" >"$run/conf/core-site.xml"
  hdfs_properties \
    "dfs.replication=$replication" \
    "dfs.namenode.rpc-address=127.0.0.1:$hdfs_port" \
    "dfs.namenode.http-address=127.0.0.1:$hdfs_http" \
    "dfs.namenode.name.dir=file://$run/name" \
    dfs.namenode.datanode.registration.ip-hostname-check=false \
    dfs.datanode.hostname=127.0.0.2 \
    dfs.namenode.safemode.extension=0 \
    dfs.heartbeat.interval=1 \
    dfs.namenode.heartbeat.recheck-interval=2000 \
    dfs.namenode.redundancy.interval.seconds=1s \
    dfs.blockreport.initialDelay=0 \
    dfs.datanode.du.reserved=0 \
    dfs.namenode.resource.du.reserved=1048576 \
    dfs.namenode.fs-limits.min-block-size=65536 \
    dfs.blocksize=4194304 \
    dfs.namenode.avoid.read.stale.datanode=true \
    dfs.namenode.avoid.write.stale.datanode=true \
    dfs.namenode.stale.datanode.interval=3000 >"$run/conf/hdfs-site.xml"
}

# hdfs_java MAIN-CLASS-AND-ARGUMENTS...: the words of a command, each ended by a zero. The folder comes last
# in the class path: Java shares no classes from what follows a folder.
hdfs_java() {
  local jars shared=()
  printf -v jars '%s:' "$hadoop"/lib/*.jar
  [ ! -f "$hadoop_start/classes.jsa" ] || shared=("-XX:SharedArchiveFile=$hadoop_start/classes.jsa")
  printf '%s\0' java "${JVM[@]}" "${shared[@]}" -cp "$jars$run/conf" "$@"
}

hdfs_launch() { # [DATANODES]
  local attempt node
  hdfs_datanodes=${1:-2}
  if ! [[ $hdfs_datanodes =~ ^[1-9]$ ]]; then answer_error "1 to $HDFS_DATANODES_MAX DataNodes, not '$hdfs_datanodes'"; return; fi
  command -v java >/dev/null || { echo "unavailable Java is not on this machine (17 or newer is needed)"; return; }
  [ -d "$hadoop/lib" ] || { echo "unavailable Hadoop is not in the cache; to have it, once: scripts/services fetch hdfs"; return; }
  hdfs_configuration "$run/conf"
  for ((attempt = 1; attempt <= HDFS_ATTEMPTS; attempt++)); do
    if hdfs_start_all; then
      printf 'url hdfs://127.0.0.1:%s\nhttp 127.0.0.1:%s\nconfiguration %s\ndatanodes %s\n' \
        "$hdfs_port" "$hdfs_http" "$run/conf" "$hdfs_datanodes"
      for ((node = 0; node < hdfs_datanodes; node++)); do printf 'dn%s %s\n' "$node" "${datanode_ports[$node]%% *}"; done
      answer_ok
      return
    fi
    for node in "${!server_pid[@]}"; do end "$node" KILL; done
    grep -qi 'address already in use' "$run"/*.log || break
  done
  for node in nn dn0; do log_tail "$node"; done
  answer_error "HDFS did not start (logs: $run/*.log)"
}

hdfs_start_all() {
  local node
  reserve_port && hdfs_port=$port && reserve_port && hdfs_http=$port || return 1
  declare -gA datanode_ports=()
  for ((node = 0; node < hdfs_datanodes; node++)); do
    reserve_port && datanode_ports[$node]=$port && reserve_port && datanode_ports[$node]+=" $port" &&
      reserve_port && datanode_ports[$node]+=" $port" || return 1
  done
  rm -rf "$run/name" "$run"/dn[0-9]
  hdfs_site
  hdfs_format || return 1
  hdfs_start_node nn
  # They ask the NameNode again and again until it answers: starting all at once saves time.
  for ((node = 0; node < hdfs_datanodes; node++)); do hdfs_start_node "dn$node"; done
  await "$HDFS_PATIENCE" nn hdfs_ready "$hdfs_datanodes"
}

# An empty name folder, under an identity of this cluster's own.
hdfs_format() {
  local command
  if [ -d "$hadoop_start/name" ]; then
    cp -r "$hadoop_start/name" "$run/name"
    sed -i "s/^clusterID=.*/clusterID=CID-$BASHPID-$hdfs_port-$EPOCHREALTIME/" "$run/name/current/VERSION"
    return
  fi
  mapfile -d '' command < <(hdfs_java "$HDFS_NODE.namenode.NameNode" -format -nonInteractive)
  "${command[@]}" </dev/null >>"$run/nn.log" 2>&1
}

# A NameNode's classes, parsed and checked, and a formatted name folder: with them a cluster needs a third
# less of the processor until it is ready. Depends on this machine's Java; without it all works, slower.
hdfs_prepare_start() { # FOLDER
  run=$1 hdfs_datanodes=1
  say "preparing Hadoop's start: once, under a minute"
  reserve_port && hdfs_port=$port && reserve_port && hdfs_http=$port || return 1
  hdfs_configuration "$run/conf"
  hdfs_site
  hdfs_format && cp -r "$run/name" "$run/formatted" || return 1
  hdfs_start_node nn "-XX:ArchiveClassesAtExit=$run/classes.jsa"
  await "$HDFS_PATIENCE" nn hdfs_ready 0 || { log_tail nn >&2; end nn KILL; return 1; }
  end nn TERM
  rm -rf "$run/name" "$run/conf" "$run/tmp" "$run/nn.log" && mv "$run/formatted" "$run/name"
}

hdfs_start_node() { # nn|dnI [OPTION]
  local command ports
  case $1 in
    nn) mapfile -d '' command < <(hdfs_java "$HDFS_NODE.namenode.NameNode") ;;
    *)
      hdfs_log_from[$1]=$(stat -c %s "$run/$1.log" 2>/dev/null || echo 0)
      read -ra ports <<<"${datanode_ports[${1#dn}]}"
      mapfile -d '' command < <(hdfs_java "$HDFS_NODE.datanode.DataNode" -D "dfs.datanode.data.dir=file://$run/$1" \
        -D "dfs.datanode.address=127.0.0.1:${ports[0]}" -D "dfs.datanode.ipc.address=127.0.0.1:${ports[1]}" \
        -D "dfs.datanode.http.address=127.0.0.1:${ports[2]}")
      ;;
  esac
  launch "$1" "${command[0]}" ${2:+"$2"} "${command[@]:1}"
}

# Where the log of a DataNode's present process begins, until it is seen to serve.
declare -A hdfs_log_from=()

# Whether every DataNode that runs has told the NameNode of its blocks since it was started: for seconds after a
# kill the NameNode counts a DataNode as alive, also one that is only starting again.
hdfs_datanodes_serve() {
  local node
  for node in "${!hdfs_log_from[@]}"; do
    alive "$node" || continue
    tail -c "+$((hdfs_log_from[$node] + 1))" "$run/$node.log" | grep -q ' Successfully sent block report ' || return 1
    unset "hdfs_log_from[$node]"
  done
}

hdfs_live() { http_get "$hdfs_http" '/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState' | sed -n 's/.*"NumLiveDataNodes" : \([0-9]*\).*/\1/p'; }

# Whether the NameNode is out of its safe mode and counts so many DataNodes, and all that run serve.
hdfs_ready() { # DATANODES
  local state
  state=$(http_get "$hdfs_http" '/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState')
  [[ $state == *'"FSState" : "Operational"'* && $state =~ '"NumLiveDataNodes" : '$1[^0-9] ]] && hdfs_datanodes_serve
}

hdfs_make_whole() {
  local node
  for node in nn dn{0..8}; do
    hdfs_is_node "$node" || continue
    if alive "$node"; then kill -CONT "${server_pid[$node]}"; else hdfs_start_node "$node"; fi
  done
}

hdfs_is_node() { [ "$1" = nn ] || [[ $1 =~ ^dn[0-9]$ && ${1#dn} -lt $hdfs_datanodes ]]; }

# A client of Hadoop's own, with a limit of time.
hdfs_client() { # CLASS ARGUMENTS...
  local command
  mapfile -d '' command < <(hdfs_java "$@")
  : >"$run/client.log"
  if timeout "$HDFS_PATIENCE" "${command[@]}" </dev/null >>"$run/client.log" 2>&1; then answer_ok; else log_tail client; answer_error "${*:2} failed"; fi
}

hdfs_command() {
  case $1 in
    kill | start | pause | resume) hdfs_is_node "${2:-}" || { answer_error "there is no node '${2:-}': nn, dn0 to dn$((hdfs_datanodes - 1))"; return; } ;;
  esac
  case $1 in
    whole) # SECONDS: what was paused goes on, what was killed is started, and all serve
      hdfs_make_whole
      hdfs_command ready "$hdfs_datanodes" "$2"
      ;;
    kill) end "$2" KILL; answer_ok ;;
    pause) kill -STOP "${server_pid[$2]}"; answer_ok ;;
    resume) kill -CONT "${server_pid[$2]}"; answer_ok ;;
    start)
      alive "$2" && { answer_error "$2 runs already"; return; }
      hdfs_start_node "$2"
      answer_ok
      ;;
    ready) # DATANODES SECONDS
      if await "$3" nn hdfs_ready "$2"; then answer_ok; else log_tail nn; answer_error "HDFS was not operational with exactly $2 live DataNodes within $3 s, but with '$(hdfs_live)'"; fi ;;
    admin) hdfs_client org.apache.hadoop.hdfs.tools.DFSAdmin "${@:2}" ;;
    shell) hdfs_client org.apache.hadoop.fs.FsShell "${@:2}" ;;
    *) answer_error "HDFS knows kill, start, pause, resume NODE; whole SECONDS; ready DATANODES SECONDS; admin ...; shell ...; not '$*'" ;;
  esac
}
