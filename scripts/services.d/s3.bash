# The S3 server: versitygw over a folder. It survives kill -9 without losing what it acknowledged, and
# promises nothing about power. The folder's file system must have extended attributes.

readonly S3_ACCESS_KEY=testkey S3_SECRET_KEY=testsecret123 S3_REGION=us-east-1 S3_BUCKET=icecore
readonly S3_PATIENCE=30 # seconds until it must answer
readonly S3_ATTEMPTS=3  # ports that may turn out to be taken

s3_launch() { # [--data FOLDER]
  local attempt
  s3_data=$run/s3
  [ "${1:-}" != --data ] || s3_data=$2
  if [ ! -x "$versitygw" ]; then
    echo "unavailable the S3 server versitygw is not in the cache; to have it, once: scripts/services fetch s3"
    return
  fi
  mkdir -p "$s3_data"
  for ((attempt = 1; attempt <= S3_ATTEMPTS; attempt++)); do
    reserve_port || break
    s3_port=$port
    if s3_start && s3_make_bucket; then
      printf 'endpoint http://127.0.0.1:%s\nbucket %s\nregion %s\naccess_key %s\nsecret_key %s\ndata %s\npid %s\n' \
        "$s3_port" "$S3_BUCKET" "$S3_REGION" "$S3_ACCESS_KEY" "$S3_SECRET_KEY" "$s3_data" "${server_pid[s3]}"
      answer_ok
      return
    fi
    end s3 KILL
    grep -qi 'address already in use' "$run/s3.log" || break
  done
  log_tail s3
  answer_error "the S3 server did not start (log: $run/s3.log; its folder $s3_data needs extended attributes)"
}

s3_start() {
  launch s3 "$versitygw" --port "127.0.0.1:$s3_port" --access "$S3_ACCESS_KEY" --secret "$S3_SECRET_KEY" \
    --region "$S3_REGION" --keep-alive --quiet posix "$s3_data"
  await "$S3_PATIENCE" s3 s3_answers
}

s3_answers() { http_get "$s3_port" / | grep -q '^HTTP/1'; }

s3_make_bucket() {
  [ -d "$s3_data/$S3_BUCKET" ] || "$versitygw" admin --access "$S3_ACCESS_KEY" --secret "$S3_SECRET_KEY" \
    --region "$S3_REGION" --endpoint-url "http://127.0.0.1:$s3_port" \
    create-bucket --owner "$S3_ACCESS_KEY" --bucket "$S3_BUCKET" >>"$run/s3.log" 2>&1
}

s3_command() {
  case $1 in
    kill) end s3 KILL; answer_ok ;;
    start)
      alive s3 && { answer_error "the S3 server runs already"; return; }
      if s3_start; then printf 'pid %s\n' "${server_pid[s3]}"; answer_ok; else log_tail s3; answer_error "the S3 server did not start again"; fi ;;
    pause) kill -STOP "${server_pid[s3]}"; answer_ok ;;
    resume) kill -CONT "${server_pid[s3]}"; answer_ok ;;
    *) answer_error "the S3 server knows kill, start, pause, resume; not '$*'" ;;
  esac
}
