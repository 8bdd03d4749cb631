# Completion of `vrooli` in bash. One answer of vrooli serves all shells: a value, a tab, what it is.
_vrooli_completion() {
    local line=${COMP_LINE:0:COMP_POINT} value before
    [[ -n $line ]] || line="${COMP_WORDS[*]}"
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        [[ -z $value ]] || COMPREPLY+=("$value")
    done < <(_VROOLI_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=$line \
        "$1" 2>/dev/null)
    # readline puts the answer in the place of what stands behind the last = or : of the word
    before=${line##*[[:space:]]}
    before=${before%"${before##*[=:]}"}
    [[ -z $before ]] || COMPREPLY=("${COMPREPLY[@]#"$before"}")
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    return 0
}

complete -o default -F _vrooli_completion vrooli
