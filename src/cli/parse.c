// From argv to a command with its options, by the table.
#include <stdio.h>

#include "cli/cli.h"

bool cli_word_in(const char *words, const char *word)
{
    size_t len = strlen(word);
    while (*words) {
        size_t n = strcspn(words, " ");
        if (n == len && memcmp(words, word, n) == 0)
            return true;
        words += n + strspn(words + n, " ");
    }
    return false;
}

// ---- did you mean -------------------------------------------------------------------------------

#define WORD_MAX 32u

// Changes of one letter (put in, left out, replaced, swapped with the next) from a to b.
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned d[WORD_MAX + 1][WORD_MAX + 1];
    if (n > WORD_MAX || m > WORD_MAX)
        return WORD_MAX;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            unsigned best = (unsigned)(i + j);
            if (i && j) {
                best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
                best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
                best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                    best = d[i - 2][j - 2] + 1 < best ? d[i - 2][j - 2] + 1 : best;
            }
            d[i][j] = best;
        }
    return d[n][m];
}

typedef struct guess {
    const char *given, *best;
    unsigned best_distance;
} guess;

static guess guess_begin(const char *given)
{
    // A third of the letters may be wrong.
    return (guess){given, NULL, (unsigned)strlen(given) / 3 + 1};
}

static void guess_try(guess *g, const char *word)
{
    bool begins = strlen(g->given) >= 3 && strncmp(word, g->given, strlen(g->given)) == 0;
    unsigned d = begins ? 0 : distance(g->given, word);
    if (d < g->best_distance || (d == g->best_distance && !g->best)) {
        g->best = word;
        g->best_distance = d;
    }
}

// ---- the command --------------------------------------------------------------------------------

static bool has_names(const char *group)
{
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++)
        if (strcmp(cmd->group, group) == 0)
            return cmd->name != NULL;
    return false;
}

static hm_err take_group(cli *c, const char *word)
{
    guess g = guess_begin(word);
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++) {
        if (strcmp(cmd->group, word) == 0) {
            c->group = cmd->group;
            c->cmd = cmd->name ? NULL : cmd;
            return HM_OK;
        }
        guess_try(&g, cmd->group);
    }
    return hm_fail(HM_E_USAGE, "unknown command %.40s%s%s", word, g.best ? "; did you mean " : "",
                   g.best ? g.best : "");
}

// Two words that are one name with a hyphen: "root create" of the group's "root-create".
static bool take_two(cli *c, const char *word, const char *next)
{
    size_t len = strlen(word);
    for (const cli_command *cmd = cli_commands; next && cmd->group; cmd++)
        if (strcmp(cmd->group, c->group) == 0 && cmd->name && strncmp(cmd->name, word, len) == 0 &&
            cmd->name[len] == '-' && strcmp(cmd->name + len + 1, next) == 0) {
            c->cmd = cmd;
            c->two = true;
            return true;
        }
    return false;
}

static hm_err take_name(cli *c, const char *word)
{
    guess g = guess_begin(word);
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++) {
        if (strcmp(cmd->group, c->group) != 0)
            continue;
        if (strcmp(cmd->name, word) == 0) {
            c->cmd = cmd;
            return HM_OK;
        }
        guess_try(&g, cmd->name);
    }
    return hm_fail(HM_E_USAGE, "unknown command %s %.40s%s%s", c->group, word,
                   g.best ? "; did you mean " : "", g.best ? g.best : "");
}

// ---- options ------------------------------------------------------------------------------------

static const cli_option *in_list(const cli_option *list, const char *flag, guess *g)
{
    size_t len = strcspn(flag, "=");
    for (const cli_option *o = list; o && o->name; o++) {
        if (flag[0] != '-' ? o->letter && o->letter == flag[0]
                           : strlen(o->name) == len - 2 && strncmp(flag + 2, o->name, len - 2) == 0)
            return o;
        guess_try(g, o->name);
    }
    return NULL;
}

// The option that "--name", "--name=value", "o" or "ofile" names.
static hm_err find_option(const cli *c, const char *flag, const cli_option **out)
{
    char name[WORD_MAX + 1] = "";
    if (flag[0] == '-')
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(flag + 2, "="), flag + 2);
    guess g = guess_begin(name);
    *out = in_list(cli_common_options, flag, &g);
    if (!*out && c->cmd)
        *out = in_list(c->cmd->options, flag, &g);
    if (*out)
        return HM_OK;
    if (flag[0] != '-')
        return hm_fail(HM_E_USAGE, "unknown option -%.1s", flag);
    return hm_fail(HM_E_USAGE, "unknown option --%s%s%s%s", name, c->cmd ? "" : " before a command",
                   g.best ? "; did you mean --" : "", g.best ? g.best : "");
}

// The first words that are no options name the command; its own options stand behind them. What
// options are worth is read by hm_config_load() later.
static hm_err find_command(cli *c, int argc, char *const *argv)
{
    const cli_option *o;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *word = argv[i];
        if (word[0] == '-' && word[1]) {
            if (strcmp(word, "--version") == 0 && !c->group) {
                c->version = true;
                continue;
            }
            bool is_long = word[1] == '-';
            HM_TRY(find_option(c, is_long ? word : word + 1, &o));
            if (o->arg && (is_long ? !strchr(word, '=') : !word[2]))
                i++;
            if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
                c->help = true;
        } else if (!c->group && strcmp(word, "help") == 0) {
            c->help = true;
        } else if (!c->group) {
            HM_TRY(take_group(c, word));
        } else if (!c->cmd && take_two(c, word, i + 1 < argc ? argv[i + 1] : NULL)) {
            i++;
        } else if (!c->cmd) {
            HM_TRY(take_name(c, word));
        }
    }
    if (c->help || c->version || c->cmd)
        return HM_OK;
    if (!c->group)
        return hm_fail(HM_E_USAGE, "a command is needed");
    hm_buf names = {0};
    for (const cli_command *cmd = cli_commands; cmd->group; cmd++)
        if (strcmp(cmd->group, c->group) == 0)
            hm_buf_printf(&names, "%s%s", names.len ? ", " : "", cmd->name);
    hm_fail(HM_E_USAGE, "%s needs one of %s", c->group, hm_buf_cstr(&names));
    hm_buf_free(&names);
    return HM_E_USAGE;
}

static size_t add_options(cli *c, size_t n, const cli_option *list)
{
    for (const cli_option *o = list; o && o->name; o++) {
        hm_assert(n < HM_CONFIG_OPTIONS_MAX);
        c->options[n++] = (hm_option){.name = o->name,
                                      .env = o->env,
                                      .arg = o->arg,
                                      .def = o->def,
                                      .help = o->help,
                                      .letter = o->letter};
    }
    return n;
}

static hm_err check_values(const cli *c)
{
    for (const cli_option *o = c->cmd->options; o && o->name; o++) {
        const char *value = hm_config_get(&c->cfg, o->name);
        if (!value && o->needed)
            return hm_fail(HM_E_USAGE, "--%s %s is needed: %s", o->name, o->arg, o->help);
        if (value && o->words && !cli_word_in(o->words, value))
            return hm_fail(HM_E_USAGE, "--%s is \"%.40s\"; it takes one of: %s", o->name, value,
                           o->words);
    }
    return HM_OK;
}

hm_err cli_parse(cli *c, int argc, char *const *argv)
{
    for (int i = 1; i < argc; i++) // how an error is told is known before there is one
        c->json = c->json || strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "-j") == 0;
    HM_TRY(find_command(c, argc, argv));
    if (c->help || c->version)
        return HM_OK;
    size_t n = add_options(c, add_options(c, 0, cli_common_options), c->cmd->options);
    HM_TRY(hm_config_load(&c->cfg, c->options, n, argc, argv));
    c->json = hm_config_on(&c->cfg, "json");
    size_t words = c->two                ? 3
                   : has_names(c->group) ? 2
                                         : 1,
           given = c->cfg.positional_count - words;
    if (given == 0 && c->cmd->arg && c->cmd->arg[0] != '[')
        return hm_fail(HM_E_USAGE, "%s is needed", c->cmd->arg);
    if (given > (c->cmd->arg ? 1u : 0u))
        return hm_fail(HM_E_USAGE, "\"%.40s\" is one argument too many",
                       c->cfg.positional[words + (c->cmd->arg ? 1 : 0)]);
    c->arg = given ? c->cfg.positional[words] : NULL;
    if (c->arg && !c->arg[0])
        return hm_fail(HM_E_USAGE, "%s is empty", c->cmd->arg);
    return check_values(c);
}
