"""String commands: in every place that takes one, a value arrives as one argument, byte for byte, and nothing runs."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vrooli_cli.errors import ExpressionError, Problem
from vrooli_cli.language.shell import RenderedScript, compile_command

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
SHOW = 'show() { printf \'%s|\' "$#"; printf %s "$1"; }\n'

# Each prints `1|` and the value; `1|` stands for one argument.
PLACES = [
    "show {{ v }}",
    'show "{{ v }}"',
    "show '{{ v }}'",
    "show ''{{ v }}\"\"",
    "show \"$(printf %s. {{ v }})\" | sed '$s/[.]$//'",
    'x={{ v }}; show "$x"',
    'x="{{ v }}" && show "$x"',
    "x='{{ v }}' y=1; show \"$x\"",
    'f() { show "{{ v }}"; }; f',
    "(show {{ v }})",
    "{ show {{ v }}; }",
    "case {{ v }} in {{ v }}) show {{ v }};; *) echo no;; esac",
    "case a in (b) ;; a | c) show {{ v }} ;; esac",
    'for i in {{ v }}; do show "$i"; done',
    "if true; then show {{ v }}; else show {{ v }}x; fi",
    "! false && show {{ v }}",
    "while true; do show '{{ v }}'; break; done",
    'sh -c \'printf "%s|%s" "$#" "$1"\' _ {{ v }}',
    'bash -c \'printf "%s|%s" "$#" "$1"\' _ {{ v }}',
    "env printf '1|%s' {{ v }}",
    'show "${unset_one:-{{ v }}}"',
    'x=pre{{ v }}; show "${x#pre}"',
    'x={{ v }}post; show "${x%"post"}"',
    'x=a{{ v }}b; y="${x%{{ v }}b}"; show {{ v }}"${y#a}"',
    ": # {{ v }} it's a comment\nshow {{ v }}",
    'export X={{ v }}; show "$X"',
    "show {{ v }} 2>/dev/null",
    "2>/dev/null show {{ v }}",
    "show \\\n {{ v }}",
    "awk 'BEGIN { exit }' {{ v }}; show {{ v }}",
    "printf '1|'; cat <<EOF | sed '$s/[.]$//' | head -c -1\n{{ v }}.\nEOF",
    "printf '1|'; cat <<-EOF | sed '$s/[.]$//' | head -c -1\n\t{{ v }}.\n\tEOF",
    "cat >/dev/null <<'E' ; show {{ v }}\nit's $( ` quoted\nE",
    'cat >/dev/null <<E ; show {{ v }}\n"$(printf %s {{ v }})"\nE',
    "show \"$(case a in a) printf %s {{ v }}. ;; esac)\" | sed '$s/[.]$//'",
]

HOSTILE = [
    "",
    " ",
    "a b",
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "\\",
    "\\'\"$HOME*?[a-z]~{a,b}!!#",
    "a[$(touch pwned)]",
    "x\n touch pwned\n",
    "\n\n",
    "-n",
    "EOF\ntouch pwned\nEOF",
    "$((1+1))${IFS}&& touch pwned | cat > pwned < /dev/null &",
    "é\u00a0\u202e\x01\x7f",
]


def run(shell: str, script: RenderedScript, cwd: Path) -> bytes:
    """What the script prints; it must not fail, and must not make a file."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **script.environment}
    done = subprocess.run([shell, "-c", script], cwd=cwd, env=environment, capture_output=True, check=False)
    assert not list(cwd.iterdir()), "the value was executed"
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(place: str, value: str, cwd: Path) -> None:
    command = compile_command(SHOW + place)
    script = command.render({"v": value})
    if len(value) > 4:
        assert value not in script
    for shell in SHELLS:
        assert run(shell, script, cwd) == b"1|" + value.encode("utf-8", "surrogateescape"), (shell, place)


@pytest.mark.parametrize("place", PLACES)
def test_hostile_values_arrive_whole_in_every_place(place: str, tmp_path: Path) -> None:
    for value in HOSTILE:
        check(place, value, tmp_path)


values = st.lists(
    st.sampled_from(
        ["$", "(", ")", "`", "'", '"', "\\", "\n", " ", "touch pwned", ";", "{", "}", "#", "*", "a", "=", "\t", "EOF"]
    )
    | st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]),
    max_size=12,
).map("".join)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=values)
def test_any_value_arrives_whole(place: str, value: str, tmp_path: Path) -> None:
    check(place, value, tmp_path)


def test_the_values_are_not_exported_further(tmp_path: Path) -> None:
    script = (
        compile_command("env; sh -c 'env'").render({})
        if False
        else compile_command("env; : {{ v }}").render({"v": "s3"})
    )
    for shell in SHELLS:
        assert b"s3" not in run(shell, script, tmp_path)


def test_a_variable_of_that_name_in_the_environment_changes_nothing(tmp_path: Path) -> None:
    script = compile_command("env; : {{ v }}").render({"v": "s3"})
    hostile = RenderedScript(script, {**script.environment, "__vr1": "exported"})
    for shell in SHELLS:
        assert b"s3" not in run(shell, hostile, tmp_path)


def test_line_numbers_of_the_script_stay(tmp_path: Path) -> None:
    script = compile_command("echo $LINENO {{ v }}\necho $LINENO").render({"v": ""})
    assert str(script).count("\n") == 1


REFUSED = [
    "{{ v }} x",
    "./{{ v }}",
    "PATH=/bin {{ v }}",
    "if {{ v }}; then :; fi",
    "true | {{ v }}",
    "true && {{ v }}",
    "f() { {{ v }}; }",
    "case a in a) {{ v }};; esac",
    "eval {{ v }}",
    'eval "echo {{ v }}"',
    "command eval {{ v }}",
    "sh -c {{ v }}",
    'sh -c "echo {{ v }}"',
    "sh -c 'echo {{ v }}'",
    "/bin/bash -lc 'echo {{ v }}'",
    "bash -o pipefail -c 'echo {{ v }}'",
    "sudo -u root sh -c 'echo {{ v }}'",
    "find . -exec sh -c 'echo {{ v }}' \\;",
    "xargs -n 1 sh -c '{{ v }}'",
    'env A=1 bash -c "{{ v }}"',
    "env {{ v }}",
    "exec {{ v }}",
    "echo `echo {{ v }}`",
    'echo "`echo {{ v }}`"',
    "echo $(echo {{ v }})",
    'echo $(echo "{{ v }}")',
    "echo $(( {{ v }} + 1 ))",
    'echo "$((x + {{ v }}))"',
    "(( {{ v }} ))",
    "for (( i={{ v }}; i<3; i++ )); do :; done",
    "echo $[ {{ v }} ]",
    "[[ -n {{ v }} ]]",
    "[[ a && 1 -eq {{ v }} ]]",
    "echo ${x:-{{ v }}}",
    'echo "${x:{{ v }}}"',
    'echo "${x[{{ v }}]}"',
    'echo "${x/a/{{ v }}}"',
    'echo "${ {{ v }} }"',
    "echo $'{{ v }}'",
    'echo $"{{ v }}"',
    "echo ${{ v }}",
    'echo "${{ v }}"',
    "echo \\{{ v }}",
    'echo "\\{{ v }}"',
    "a[{{ v }}]=3",
    "a=([{{ v }}]=3)",
    "trap {{ v }} EXIT",
    ". {{ v }}",
    "source {{ v }}",
    "awk {{ v }} f",
    "awk -F : '{ print {{ v }} }' f",
    "sed 's/a/{{ v }}/' f",
    "sed -n -e 's/a/{{ v }}/' f",
    "sed --expression='{{ v }}' f",
    "perl -ne 'print {{ v }}' f",
    "python3 -c 'print({{ v }})'",
    "python3 -W error -c '{{ v }}'",
    "node --eval={{ v }}",
    "ssh -p 22 host ls {{ v }}",
    "let x={{ v }}",
    "[ -v {{ v }} ]",
    "printf -v {{ v }} x",
    "declare x={{ v }}",
    "unset {{ v }}",
    "read {{ v }}",
    "local {{ v }}",
    "for {{ v }} in a; do :; done",
    "PS4={{ v }}",
    "declare -i n; n={{ v }}",
    "n={{ v }}; typeset -i n",
    "watch ls {{ v }}",
    'echo "$(eval {{ v }})"',
    "cat <<'EOF'\n{{ v }}\nEOF",
    "cat <<\\EOF\n{{ v }}\nEOF",
    "cat <<{{ v }}\nx\n",
    "cat <<EOF\n$(( {{ v }} ))\nEOF",
]


@pytest.mark.parametrize("command", REFUSED)
def test_where_a_value_would_be_read_again_the_file_is_refused(command: str) -> None:
    found: list[Problem] = []
    compile_command(command, pointer=("steps", 0), problems=found)
    assert [problem.warning for problem in found] == [False]
    assert found[0].pointer == ("steps", 0)
    assert "cannot stand" in found[0].message
    assert "env:" in found[0].hint
    assert "command: [" in found[0].hint


@pytest.mark.parametrize(
    "command",
    [
        "git log -n{{ v }} -- {{ w }}",
        "sudo -u {{ v }} ls",
        "ssh {{ v }} uptime",
        "python3 script.py -c {{ v }}",
        "awk -f prog.awk {{ v }}",
        "sed -n 1p {{ v }}",
        "timeout {{ v }} sleep 1",
        "command -v {{ v }}",
        "grep sed {{ v }}",
        "echo eval {{ v }}",
        'a=({{ v }} {{ w }}); echo "${a[0]}"',
        "diff <(sort {{ v }}) <(sort {{ w }})",
        "tr a b <<< {{ v }}",
        "echo {{ v }} > {{ w }} 2>&1",
        "test {{ v }} = x",
        "local x={{ v }}",
        "echo 'it''s' {{ v }} # don't {{ w }}",
        'x="$(cat {{ v }})"',
    ],
)
def test_where_a_value_is_an_argument_it_is_allowed(command: str) -> None:
    found: list[Problem] = []
    compile_command(command, problems=found)
    assert found == []


def test_raw_opts_out_with_a_warning(tmp_path: Path) -> None:
    found: list[Problem] = []
    command = compile_command("printf %s {{ v | raw }} {{ w }}", problems=found)
    assert [problem.warning for problem in found] == [True]
    script = command.render({"v": "a; printf %s", "w": "$x"})
    assert run("sh", script, tmp_path) == b"a$x"


def test_braces_are_written_as_text() -> None:
    assert compile_command("echo {{ '{{' }}x").render({}) == "echo {{x"


def test_values_that_no_command_can_take_are_parameter_invalid() -> None:
    command = compile_command("echo {{ v }}")
    for value, part in [("a\0b", "NUL"), ("x" * 131_072, "stdin:"), ("\ud800", "not valid text")]:
        with pytest.raises(ExpressionError) as error:
            command.render({"v": value})
        assert error.value.code == "PARAMETER_INVALID"
        assert part in str(error.value)


def test_the_largest_value_that_is_let_through_can_be_passed(tmp_path: Path) -> None:
    script = compile_command("printf %s {{ v }} | wc -c").render({"v": "x" * 131_000})
    assert run("sh", script, tmp_path).strip() == b"131000"


def test_values_have_their_text_form() -> None:
    script = compile_command("echo {{ a }} {{ b }} {{ c }}").render({"a": {"k": [1]}, "b": None, "c": True})
    assert script.environment == {"VROOLI_1": '{"k": [1]}', "VROOLI_2": "", "VROOLI_3": "true"}


def test_a_rendered_script_travels() -> None:
    script = compile_command("echo {{ v }}").render({"v": "x"})
    copy = pickle.loads(pickle.dumps(script))
    assert copy == script
    assert copy.environment == {"VROOLI_1": "x"}
    assert isinstance(script, str)


def test_mistakes_in_expressions_are_reported_once() -> None:
    found: list[Problem] = []
    compile_command("echo {{ v | nope }}", problems=found)
    assert len(found) == 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "{{ v }}",
                "'",
                '"',
                "`",
                "$(",
                "${",
                "((",
                ")",
                "}",
                "<<E",
                "\n",
                "E",
                "case x in ",
                "esac",
                ";;",
                "[[",
                "\\",
                "#",
                " ",
                "a=",
                "(",
                "|",
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_any_text_is_read_to_its_end(raw: str) -> None:
    found: list[Problem] = []
    command = compile_command(raw, problems=found)
    unreadable = any("cannot stand" not in problem.message for problem in found)  # `${#` begins a comment
    assert sum(not isinstance(part, str) for part in command.parts) == (0 if unreadable else raw.count("{{ v }}"))
