#!/bin/sh
# Computes ../flink_key_groups.txt anew, with Flink's own classes. Needs Java 17 and Maven.
# Maven's output goes to standard error, build products to a temporary folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cp -r "$here/pom.xml" "$here/src" "$build/"
(
    cd "$build"
    mvn --batch-mode --quiet compile dependency:build-classpath -Dmdep.outputFile=classpath 1>&2
)
java -cp "$build/target/classes:$(cat "$build/classpath")" icecore.Vectors > "$build/vectors"
mv "$build/vectors" "$here/../flink_key_groups.txt"
