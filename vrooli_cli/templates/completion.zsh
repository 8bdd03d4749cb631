#compdef vrooli
# Completion of `vrooli` in zsh. One answer of vrooli serves all shells: a value, a tab, what it is.
_vrooli_completion() {
    local answer line value about
    local -a whole begun
    answer=$(_VROOLI_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" vrooli 2>/dev/null)
    for line in ${(f)answer}; do
        value=${${line%%$'\t'*}//:/\\:}
        about=${line#*$'\t'}
        [[ $line == *$'\t'* ]] && value+=":$about"
        if [[ ${line%%$'\t'*} == *[=/] ]]; then begun+=("$value"); else whole+=("$value"); fi
    done
    if (( ! $#whole && ! $#begun )); then
        _files
        return
    fi
    (( $#whole )) && _describe -V vrooli whole
    (( $#begun )) && _describe -V vrooli begun -S ''
}

compdef _vrooli_completion vrooli
