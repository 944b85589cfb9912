"""`completion`: prints a script that lets a shell complete the words of a call."""

from __future__ import annotations

import argparse

from bandwidth_cli import outcome
from bandwidth_cli.text import page

BASH = """\
# Completes kubectl-cbl. `kubectl cbl` is completed by kubectl's own script, through kubectl_complete-cbl.
_kubectl_cbl() {
  local IFS=$'\\n' line
  COMPREPLY=()
  # Bash takes a word with a colon, such as an IPv6 address, for several.
  local word=${COMP_LINE:0:COMP_POINT}
  word=${word##*[[:space:]]}
  local cut=""
  [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && cut=${word%"${word##*:}"}
  for line in $(kubectl-cbl __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" "$word" 2>/dev/null); do
    [[ $line == :4 ]] && continue
    line=${line%%$'\\t'*}
    COMPREPLY+=("${line#"$cut"}")
  done
}
complete -F _kubectl_cbl kubectl-cbl"""

ZSH = """\
#compdef kubectl-cbl
# Completes kubectl-cbl. `kubectl cbl` is completed by kubectl's own script, through kubectl_complete-cbl.
_kubectl_cbl() {
  local -a found
  local line word text
  for line in ${(f)"$(kubectl-cbl __complete ${(@)words[2,CURRENT]} 2>/dev/null)"}; do
    [[ $line == :4 ]] && continue
    word=${line%%$'\\t'*}
    text=""
    [[ $line == *$'\\t'* ]] && text=${line#*$'\\t'}
    found+=("${word//:/\\\\:}${text:+:$text}")
  done
  _describe 'kubectl-cbl' found
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _kubectl_cbl "$@"
else
  compdef _kubectl_cbl kubectl-cbl
fi"""

FISH = """\
# Completes kubectl-cbl. `kubectl cbl` is completed by kubectl's own script, through kubectl_complete-cbl.
function __kubectl_cbl
  set -l words (commandline -opc) (commandline -ct)
  kubectl-cbl __complete $words[2..-1] 2>/dev/null | string match -v ':4'
end
complete -c kubectl-cbl -f -a '(__kubectl_cbl)'"""

KUBECTL = """\
#!/bin/sh
# kubectl's completion runs this for the words behind `kubectl cbl`. To be in PATH as kubectl_complete-cbl.
exec kubectl-cbl __complete "$@\""""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "kubectl": KUBECTL}


def run(options: argparse.Namespace) -> int:
    """Print a script; return the exit code."""
    page.show([SCRIPTS[options.shell]])
    return outcome.DONE
