// What every daemon's main() does alike: commands, help, options, the bearer token.
#ifndef HM_SERVER_DAEMON_H
#define HM_SERVER_DAEMON_H

#include "base/config.h"
#include "server/http.h"

#define DAEMON_TOKEN_MAX 256u
#define DAEMON_TIME_MAX 32u

typedef struct daemon_command {
    const char *name, *help;
    hm_err (*run)(const hm_config *c);
} daemon_command;

typedef struct daemon_program {
    const char *name;
    const hm_option *options;
    size_t option_count;
    const daemon_command *commands;
    size_t command_count;
} daemon_program;

// Reads the options, runs the command that is the first positional argument, and tells on stderr
// what went wrong. The options hold "log-level" and "help". Exit code: 0, 2 for wrong usage or
// configuration, else 1.
int daemon_main(const daemon_program *p, int argc, char **argv);
// Cuts "a,b" up into at most max names, which stand in text, a copy; returns how many.
size_t daemon_names(const char *list, char *text, size_t text_size, const char **out, size_t max);
// HM_E_USAGE when the option has no value.
HM_CHECK hm_err daemon_need(const hm_config *c, const char *name, const char **out);
// The first line of a file. Zero it after use.
HM_CHECK hm_err daemon_token_file(const char *path, char out[DAEMON_TOKEN_MAX]);
// DIR/api.token.
HM_CHECK hm_err daemon_token_read(const char *dir, char out[DAEMON_TOKEN_MAX]);
// As people read it, in UTC; "never" for 0. Returns out, or a text that stays.
const char *daemon_time_text(uint64_t wall_ms, char out[DAEMON_TIME_MAX]);
// "max-connections", "client-connections" and "client-rate".
HM_CHECK hm_err daemon_http_limits(const hm_config *c, hm_http_limits *out);

#endif
