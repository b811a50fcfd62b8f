# tie SCRIPT ARGUMENTS...: from here on this process gets TERM when its caller ends, however that comes
# about (Linux). It starts SCRIPT, which must be the running one, once again for that.
tie() {
  case ${ICECORE_TIED:-} in
    "$$ $PPID") return ;;
    "$$ "*) exit 143 ;; # the caller ended in between
  esac
  ! command -v setpriv >/dev/null || ICECORE_TIED="$$ $PPID" exec setpriv --pdeathsig TERM "$@"
}
