// What is made from the table of commands: --help, the man page, completion for bash and zsh.
#include <stdio.h>

#include "cli/cli.h"

#define WIDTH 80
#define ABOUT                                                                                      \
    "The command line of a HyperMesh: asks nodes and the authority over HTTPS (IPv6 only), "       \
    "changes what it is allowed to, and checks what can be checked without trusting them."
// Of the man page: the day on which the table last changed.
#define DATE "2026-11-25"

static bool same_group(const cli_command *cmd, const char *group)
{
    return cmd->group && strcmp(cmd->group, group) == 0;
}

// ---- --help -------------------------------------------------------------------------------------

// Words of one paragraph, lines of at most WIDTH columns, each after the first indented.
static void put_wrapped(hm_buf *b, size_t at, size_t indent, const char *text)
{
    for (size_t n; *text; text += n + strspn(text + n, " ")) {
        n = strcspn(text, " ");
        if (at > indent && at + 1 + n > WIDTH) {
            hm_buf_printf(b, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            hm_buf_puts(b, " ");
            at++;
        }
        hm_buf_append(b, text, n);
        at += n;
    }
    hm_buf_puts(b, "\n");
}

static void put_paragraphs(hm_buf *b, const char *text)
{
    while (text && *text) {
        const char *end = strstr(text, "\n\n");
        hm_buf part = {0};
        hm_buf_append(&part, text, end ? (size_t)(end - text) : strlen(text));
        hm_buf_puts(b, "\n");
        put_wrapped(b, 0, 0, hm_buf_cstr(&part));
        hm_buf_free(&part);
        text = end ? end + 2 : NULL;
    }
}

// Two columns: the left one, and the text beside it or, when that is long, below.
static void put_row(hm_buf *b, const char *left, size_t width, const char *right)
{
    size_t indent = width + 4, at = 2 + strlen(left);
    hm_buf_printf(b, "  %s", left);
    if (at + 2 > indent)
        hm_buf_printf(b, "\n%*s", (int)indent, "");
    else
        hm_buf_printf(b, "%*s", (int)(indent - at), "");
    put_wrapped(b, indent, indent, right);
}

static const char *command_words(const cli_command *cmd, hm_buf *b)
{
    hm_buf_reset(b);
    hm_buf_printf(b, "%s%s%s%s%s", cmd->group, cmd->name ? " " : "", cmd->name ? cmd->name : "",
                  cmd->arg ? " " : "", cmd->arg ? cmd->arg : "");
    return hm_buf_cstr(b);
}

static void put_commands(hm_buf *b, const char *group)
{
    hm_buf left = {0};
    hm_buf_puts(b, "\nCommands:\n");
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++)
        if (!group || same_group(cmd, group))
            put_row(b, command_words(cmd, &left), 22, cmd->help);
    hm_buf_free(&left);
}

static void put_options(hm_buf *b, const char *title, const cli_option *list)
{
    hm_buf left = {0}, right = {0};
    if (!list)
        return;
    hm_buf_printf(b, "\n%s:\n", title);
    for (const cli_option *o = list; o->name; o++) {
        hm_buf_reset(&left);
        hm_buf_reset(&right);
        if (o->letter)
            hm_buf_printf(&left, "-%c, ", o->letter);
        hm_buf_printf(&left, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        hm_buf_puts(&right, o->help);
        if (o->words)
            hm_buf_printf(&right, ": %s", o->words);
        if (o->needed)
            hm_buf_puts(&right, " (needed)");
        if (o->def)
            hm_buf_printf(&right, " [%s]", o->def);
        if (o->env)
            hm_buf_printf(&right, " ($%s)", o->env);
        put_row(b, hm_buf_cstr(&left), 22, hm_buf_cstr(&right));
    }
    hm_buf_free(&left);
    hm_buf_free(&right);
}

static void put_exits(hm_buf *b)
{
    hm_buf_puts(b, "\nExit codes:\n");
    for (const cli_word *e = cli_exits; e->word; e++)
        put_row(b, e->word, 1, e->help);
}

// Is the word one of those that stand for the argument ("FILE|SERIAL")?
static bool names_arg(const cli_command *cmd, const char *word)
{
    size_t len = strlen(word), n;
    for (const char *p = cmd->arg; p && *p; p += n + (p[n] == '|')) {
        n = strcspn(p, "|");
        if (n == len && memcmp(p, word, n) == 0)
            return true;
    }
    return false;
}

static void put_args(hm_buf *b, const cli_command *cmd)
{
    bool titled = false;
    for (const cli_word *a = cli_args; a->word; a++) {
        if (!names_arg(cmd, a->word))
            continue;
        hm_buf_puts(b, titled ? "" : "\nArgument:\n");
        put_row(b, a->word, 22, a->help);
        titled = true;
    }
}

static void put_command_help(hm_buf *b, const cli_command *cmd)
{
    hm_buf words = {0};
    hm_buf_printf(b, "usage: hypermesh %s%s\n\n", command_words(cmd, &words),
                  cmd->options ? " [OPTIONS]" : "");
    hm_buf_free(&words);
    // The one line as a sentence.
    char first[2] = {cmd->help[0], 0};
    if (first[0] >= 'a' && first[0] <= 'z')
        first[0] = (char)(first[0] - 'a' + 'A');
    hm_buf_printf(&words, "%s%s.", first, cmd->help + 1);
    put_wrapped(b, 0, 0, hm_buf_cstr(&words));
    hm_buf_free(&words);
    put_paragraphs(b, cmd->about);
    put_args(b, cmd);
    put_options(b, "Options", cmd->options);
    put_options(b, "Options of every command", cli_common_options);
    if (cmd->examples) {
        hm_buf_puts(b, "\nExamples:\n");
        for (const char *line = cmd->examples; *line; line += strspn(line, "\n")) {
            size_t n = strcspn(line, "\n");
            hm_buf_printf(b, "  %.*s\n", (int)n, line);
            line += n;
        }
    }
    put_exits(b);
}

void cli_put_help(hm_buf *b, const char *group, const cli_command *cmd)
{
    if (cmd) {
        put_command_help(b, cmd);
        return;
    }
    if (group) {
        const char *help = "";
        for (const cli_word *g = cli_groups; g->word; g++)
            if (strcmp(g->word, group) == 0)
                help = g->help;
        hm_buf_printf(b, "usage: hypermesh %s COMMAND [OPTIONS]\n\n%s: %s\n", group, group, help);
        put_commands(b, group);
        hm_buf_printf(b, "\nhypermesh %s COMMAND --help tells what a command takes.\n", group);
        return;
    }
    hm_buf_puts(b, "usage: hypermesh COMMAND [OPTIONS]\n\n");
    put_wrapped(b, 0, 0, ABOUT);
    put_commands(b, NULL);
    put_options(b, "Options of every command", cli_common_options);
    put_exits(b);
    hm_buf_puts(b, "\nhypermesh COMMAND --help tells what a command takes; man hypermesh, "
                   "everything.\n");
}

static hm_err put_out(hm_buf *b)
{
    hm_err err = hm_buf_status(b);
    if (err == HM_OK && fwrite(b->ptr, 1, b->len, stdout) != b->len)
        err = hm_fail(HM_E_IO, "the output cannot be written");
    hm_buf_free(b);
    return err;
}

// ---- the man page -------------------------------------------------------------------------------

// Text for troff: minus signs that can be copied, no control lines. The lines of a source are
// short, and where a text has its own lines they are kept.
static void put_troff(hm_buf *b, const char *text)
{
    size_t at = 0;
    for (const char *p = text; *p; p++, at++) {
        bool first = p == text || p[-1] == '\n';
        if (p[0] == '\n' && p[1] == '\n') {
            hm_buf_puts(b, "\n.IP\n");
            at = 0;
            p++;
        } else if (*p == '\n' || (*p == ' ' && at + strcspn(p + 1, " \n") > 60)) {
            hm_buf_puts(b, "\n");
            at = 0;
        } else if (*p == '\\') {
            hm_buf_puts(b, "\\e");
        } else if (*p == '-') {
            hm_buf_puts(b, "\\-");
        } else {
            hm_buf_printf(b, "%s%c", first && (*p == '.' || *p == '\'') ? "\\&" : "", *p);
        }
    }
}

static void put_troff_option(hm_buf *b, const cli_option *o)
{
    hm_buf_puts(b, ".TP\n");
    if (o->letter)
        hm_buf_printf(b, "\\fB\\-%c\\fR, ", o->letter);
    hm_buf_puts(b, "\\fB\\-\\-");
    put_troff(b, o->name);
    hm_buf_puts(b, "\\fR");
    if (o->arg)
        hm_buf_printf(b, " \\fI%s\\fR", o->arg);
    hm_buf_puts(b, "\n");
    put_troff(b, o->help);
    if (o->words) {
        hm_buf_puts(b, ": ");
        put_troff(b, o->words);
    }
    hm_buf_puts(b, ".");
    if (o->needed)
        hm_buf_puts(b, "\nNeeded.");
    if (o->def) {
        hm_buf_puts(b, "\nDefault: ");
        put_troff(b, o->def);
        hm_buf_puts(b, ".");
    }
    if (o->env)
        hm_buf_printf(b, "\nEnvironment: \\fB%s\\fR.", o->env);
    hm_buf_puts(b, "\n");
}

static void put_troff_command(hm_buf *b, const cli_command *cmd)
{
    hm_buf_printf(b, ".TP\n\\fBhypermesh %s", cmd->group);
    if (cmd->name) {
        hm_buf_puts(b, " ");
        put_troff(b, cmd->name);
    }
    hm_buf_puts(b, "\\fR");
    if (cmd->arg)
        hm_buf_printf(b, " \\fI%s\\fR", cmd->arg);
    hm_buf_puts(b, "\n");
    put_troff(b, cmd->help);
    hm_buf_puts(b, ".\n");
    if (cmd->about) {
        hm_buf_puts(b, ".IP\n");
        put_troff(b, cmd->about);
        hm_buf_puts(b, "\n");
    }
    if (cmd->options) {
        hm_buf_puts(b, ".RS\n");
        for (const cli_option *o = cmd->options; o->name; o++)
            put_troff_option(b, o);
        hm_buf_puts(b, ".RE\n");
    }
    if (cmd->examples) {
        hm_buf_puts(b, ".IP\n.EX\n");
        put_troff(b, cmd->examples);
        hm_buf_puts(b, "\n.EE\n");
    }
}

hm_err cli_man(cli *c, const cli_command *cmd)
{
    hm_buf b = {0};
    const char *group = "";
    (void)c;
    (void)cmd;
    hm_buf_puts(&b, ".TH HYPERMESH 1 " DATE " \"hypermesh " HM_CLI_VERSION "\" HyperMesh\n"
                    ".SH NAME\nhypermesh \\- the command line of a HyperMesh\n"
                    ".SH SYNOPSIS\n\\fBhypermesh\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n"
                    ".SH DESCRIPTION\n");
    put_troff(&b, ABOUT);
    hm_buf_puts(&b, "\n.SH COMMANDS\n");
    for (cmd = cli_commands; cmd->group; cmd++) {
        if (strcmp(cmd->group, group) != 0) {
            hm_buf_printf(&b, ".SS %s\n", cmd->group);
            for (const cli_word *g = cli_groups; cmd->name && g->word; g++)
                if (strcmp(g->word, cmd->group) == 0)
                    hm_buf_printf(&b, "%c%s.\n", g->help[0] - 'a' + 'A', g->help + 1);
        }
        group = cmd->group;
        put_troff_command(&b, cmd);
    }
    hm_buf_puts(&b, ".SH ARGUMENTS\n");
    for (const cli_word *a = cli_args; a->word; a++) {
        hm_buf_printf(&b, ".TP\n\\fI%s\\fR\n", a->word);
        put_troff(&b, a->help);
        hm_buf_puts(&b, ".\n");
    }
    hm_buf_puts(&b, ".SH OPTIONS\nThese are taken by every command, before or behind its words.\n");
    for (const cli_option *o = cli_common_options; o->name; o++)
        put_troff_option(&b, o);
    hm_buf_puts(&b, ".SH EXIT STATUS\n");
    for (const cli_word *e = cli_exits; e->word; e++) {
        hm_buf_printf(&b, ".TP\n\\fB%s\\fR\n", e->word);
        put_troff(&b, e->help);
        hm_buf_puts(&b, ".\n");
    }
    return put_out(&b);
}

// ---- completion ---------------------------------------------------------------------------------

static bool names_file(const char *arg)
{
    return arg && (strstr(arg, "FILE") || strstr(arg, "DIR") || strcmp(arg, "CSR") == 0);
}

// What completes the value of each option: a line of case for the words before the cursor.
static void put_bash_values(hm_buf *b, const char *group, const char *name, const cli_option *list)
{
    for (const cli_option *o = list; o && o->name; o++) {
        if (!o->words && !names_file(o->arg))
            continue;
        hm_buf_printf(b, "    %s:%s:--%s", group, name, o->name);
        if (o->letter)
            hm_buf_printf(b, " | %s:%s:-%c", group, name, o->letter);
        if (o->words)
            hm_buf_printf(b, ") words='%s' ;;\n", o->words);
        else
            hm_buf_puts(b, ") files=1 ;;\n");
    }
}

static void put_bash_names(hm_buf *b, const cli_option *list)
{
    for (const cli_option *o = list; o && o->name; o++)
        hm_buf_printf(b, " --%s", o->name);
}

// What the argument can be, when it is words: "bash|zsh" gives "bash zsh".
static void put_arg_words(hm_buf *b, const char *arg)
{
    for (const char *p = arg; p && *p; p++)
        if (*p == '|' || (*p >= 'a' && *p <= 'z'))
            hm_buf_append(b, *p == '|' ? " " : p, 1);
}

static void put_value_flags_of(hm_buf *b, const cli_option *list)
{
    hm_buf flag = {0};
    for (const cli_option *o = list; o && o->name; o++) {
        hm_buf_reset(&flag);
        hm_buf_printf(&flag, "|--%s|", o->name);
        if (!o->arg || strstr(hm_buf_cstr(b), hm_buf_cstr(&flag)))
            continue;
        hm_buf_printf(b, "--%s|", o->name);
        if (o->letter)
            hm_buf_printf(b, "-%c|", o->letter);
    }
    hm_buf_free(&flag);
}

// A pattern of all options behind which a value stands.
static void put_value_flags(hm_buf *b)
{
    hm_buf all = {0};
    hm_buf_puts(&all, "|");
    put_value_flags_of(&all, cli_common_options);
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++)
        put_value_flags_of(&all, cmd->options);
    hm_buf_append(b, all.ptr + 1, all.len > 2 ? all.len - 2 : 0);
    hm_buf_free(&all);
}

// The line is split at blanks, not at what bash takes for borders of words: a URL is one.
static void put_bash(hm_buf *b)
{
    const char *group = "";
    hm_buf_puts(
        b, "# bash completion for hypermesh; made by hypermesh completion bash\n"
           "_hypermesh() {\n"
           "    local line=${COMP_LINE:0:COMP_POINT} list words='' files='' i group='' name=''\n"
           "    read -ra list <<<\"$line\"\n"
           "    [[ $line != *[[:space:]] ]] || list+=('')\n"
           "    local cur=${list[-1]} prev=${list[-2]}\n"
           "    for ((i = 1; i < ${#list[@]} - 1; i++)); do\n"
           "        case ${list[i]} in\n"
           "        ");
    put_value_flags(b);
    hm_buf_puts(b, ") ((i++)) ;;\n"
                   "        -*) ;;\n"
                   "        *)\n"
                   "            if [ -z \"$group\" ]; then group=${list[i]}\n"
                   "            elif [ -z \"$name\" ]; then name=${list[i]}; fi ;;\n"
                   "        esac\n"
                   "    done\n"
                   "    case $group:$name:$prev in\n");
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++)
        put_bash_values(b, cmd->group, cmd->name ? cmd->name : "*", cmd->options);
    put_bash_values(b, "*", "*", cli_common_options);
    hm_buf_puts(b, "    esac\n    if [ -z \"$words$files\" ]; then\n"
                   "        case $group:$name in\n        :) words='");
    for (const cli_word *g = cli_groups; g->word; g++)
        hm_buf_printf(b, "%s ", g->word);
    hm_buf_puts(b, "help' ;;\n");
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++) {
        if (cmd->name && strcmp(cmd->group, group) != 0) {
            hm_buf_printf(b, "        %s:) words='", cmd->group);
            for (const cli_command *x = cmd; same_group(x, cmd->group); x++)
                hm_buf_printf(b, "%s%s", x == cmd ? "" : " ", x->name);
            hm_buf_puts(b, "' ;;\n");
        }
        group = cmd->group;
        hm_buf_printf(b, "        %s:%s) words='", cmd->group, cmd->name ? cmd->name : "*");
        put_arg_words(b, cmd->arg);
        put_bash_names(b, cmd->options);
        put_bash_names(b, cli_common_options);
        hm_buf_printf(b, "'%s ;;\n", names_file(cmd->arg) ? " files=1" : "");
    }
    hm_buf_puts(b, "        esac\n    fi\n"
                   "    COMPREPLY=()\n"
                   "    [ -z \"$words\" ] || mapfile -t COMPREPLY "
                   "< <(compgen -W \"$words\" -- \"$cur\")\n"
                   "    if [ -n \"$files\" ] && [[ $cur != -* ]]; then\n"
                   "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
                   "        compopt -o filenames 2>/dev/null\n"
                   "    fi\n"
                   "}\n"
                   "complete -F _hypermesh hypermesh\n");
}

// Inside single quotes, and with what _arguments and _describe take for themselves escaped.
static void put_zsh_text(hm_buf *b, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            hm_buf_puts(b, "'\\''");
        else if (strchr("[]:\\", *p))
            hm_buf_printf(b, "\\%c", *p);
        else
            hm_buf_append(b, p, 1);
    }
}

static void put_zsh_action(hm_buf *b, const char *arg, const char *words)
{
    put_zsh_text(b, arg);
    if (words)
        hm_buf_printf(b, ":(%s)", words);
    else
        hm_buf_puts(b, names_file(arg) ? ":_files" : ":");
}

static void put_zsh_option(hm_buf *b, const cli_option *o)
{
    hm_buf_puts(b, " \\\n                ");
    if (o->letter)
        hm_buf_printf(b, "'(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter, o->name);
    else
        hm_buf_printf(b, "'--%s[", o->name);
    put_zsh_text(b, o->help);
    hm_buf_puts(b, "]");
    if (o->arg) {
        hm_buf_puts(b, ":");
        put_zsh_action(b, o->arg, o->words);
    }
    hm_buf_puts(b, "'");
}

static void put_zsh_list(hm_buf *b, const char *word, const char *help)
{
    hm_buf_printf(b, " \\\n            '%s:", word);
    put_zsh_text(b, help);
    hm_buf_puts(b, "'");
}

static void put_zsh(hm_buf *b)
{
    const char *group = "";
    hm_buf_puts(b, "#compdef hypermesh\n"
                   "# zsh completion for hypermesh; made by hypermesh completion zsh\n"
                   "_hypermesh() {\n"
                   "    local group='' name='' i\n"
                   "    local -a list\n"
                   "    for ((i = 2; i < CURRENT; i++)); do\n"
                   "        case $words[i] in\n"
                   "        ");
    put_value_flags(b);
    hm_buf_puts(b, ") ((i++)) ;;\n"
                   "        -*) ;;\n"
                   "        *)\n"
                   "            if [[ -z $group ]]; then group=$words[i]\n"
                   "            elif [[ -z $name ]]; then name=$words[i]; fi ;;\n"
                   "        esac\n"
                   "    done\n"
                   "    case $group:$name in\n"
                   "    :)\n        list=(");
    for (const cli_word *g = cli_groups; g->word; g++)
        put_zsh_list(b, g->word, g->help);
    hm_buf_puts(b, ")\n        _describe command list ;;\n");
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++) {
        if (cmd->name && strcmp(cmd->group, group) != 0) {
            hm_buf_printf(b, "    %s:)\n        list=(", cmd->group);
            for (const cli_command *x = cmd; same_group(x, cmd->group); x++)
                put_zsh_list(b, x->name, x->help);
            hm_buf_puts(b, ")\n        _describe command list ;;\n");
        }
        group = cmd->group;
        hm_buf_printf(b, "    %s:%s)\n        _arguments -S", cmd->group,
                      cmd->name ? cmd->name : "*");
        for (const cli_option *o = cmd->options; o && o->name; o++)
            put_zsh_option(b, o);
        for (const cli_option *o = cli_common_options; o->name; o++)
            put_zsh_option(b, o);
        hm_buf_printf(b, " \\\n                '1: :'%s", cmd->name ? " '2: :'" : "");
        if (cmd->arg) {
            hm_buf words = {0};
            put_arg_words(&words, cmd->arg);
            hm_buf_printf(b, " '%d:", cmd->name ? 3 : 2);
            put_zsh_action(b, cmd->arg, words.len ? hm_buf_cstr(&words) : NULL);
            hm_buf_puts(b, "'");
            hm_buf_free(&words);
        }
        hm_buf_puts(b, " ;;\n");
    }
    hm_buf_puts(b, "    esac\n}\n"
                   "if [[ $funcstack[1] == _hypermesh ]]; then _hypermesh \"$@\"\n"
                   "else compdef _hypermesh hypermesh; fi\n");
}

hm_err cli_completion(cli *c, const cli_command *cmd)
{
    hm_buf b = {0};
    (void)cmd;
    if (strcmp(c->arg, "bash") == 0)
        put_bash(&b);
    else if (strcmp(c->arg, "zsh") == 0)
        put_zsh(&b);
    else
        return hm_fail(HM_E_USAGE, "completion is made for bash and zsh");
    return put_out(&b);
}
