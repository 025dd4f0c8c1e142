// Configuration: one table of options is the flags, the environment variables, the keys of the INI
// file, the defaults and the text of --help. Flags win over the environment, the environment over
// the file, the file over the default. An unknown flag or key is an error that names it. One
// thread.
#ifndef HM_BASE_CONFIG_H
#define HM_BASE_CONFIG_H

#include <netinet/in.h>

#include "base/bytes.h"

#define HM_CONFIG_OPTIONS_MAX 64u
#define HM_CONFIG_FILE_MAX (1u << 20)

typedef struct hm_option {
    const char *name; // flag without dashes: "listen"
    const char *env;  // environment variable, or NULL
    const char *ini;  // "section.key" in the file, or NULL
    const char *arg;  // what the value is, for people ("ADDR"); NULL: a switch without value
    const char *def;  // default, or NULL for none
    const char *help; // one line or two
    char letter;      // short form: 'o' for -o; 0 = none
} hm_option;

typedef struct hm_config {
    const hm_option *options; // borrowed
    size_t count;
    char *values[HM_CONFIG_OPTIONS_MAX];           // owned; NULL = unset
    uint8_t from[HM_CONFIG_OPTIONS_MAX];           // hm_config_source
    const char *positional[HM_CONFIG_OPTIONS_MAX]; // borrowed from argv
    size_t positional_count;
} hm_config;

typedef enum hm_config_source {
    HM_CONFIG_UNSET,
    HM_CONFIG_DEFAULT,
    HM_CONFIG_FILE,
    HM_CONFIG_ENV,
    HM_CONFIG_FLAG,
} hm_config_source;

// Reads argv[1..] against the table ("--name value", "--name=value", "-n value"; "--" ends the
// flags, "-" alone is an argument), then the
// environment, then the file that the option named "config" names, when the table has one. A file
// named by a flag or the environment must exist; one that is the default need not. HM_E_USAGE for a
// flag, HM_E_CONFIG for the file, with the detail. Free with hm_config_free() also after a failure.
HM_CHECK hm_err hm_config_load(hm_config *c, const hm_option *options, size_t count, int argc,
                               char *const *argv);
void hm_config_free(hm_config *c);

// The value, or NULL. The name is in the table (asserted).
const char *hm_config_get(const hm_config *c, const char *name);
// A switch: set to anything but "", "0", "false", "no" or "off".
bool hm_config_on(const hm_config *c, const char *name);
// A decimal number in [min, max]; HM_E_CONFIG names option, value and bounds.
HM_CHECK hm_err hm_config_u64(const hm_config *c, const char *name, uint64_t min, uint64_t max,
                              uint64_t *out);
// "[::]:8443", "[::1%lo]:0": an IPv6 address in brackets and a port. IPv4 is refused by name.
HM_CHECK hm_err hm_config_addr(const hm_config *c, const char *name, struct sockaddr_in6 *out);
HM_CHECK hm_err hm_addr_parse(const char *text, struct sockaddr_in6 *out);
// "[2001:db8::1]:8443".
#define HM_ADDR_TEXT_MAX 80
const char *hm_addr_text(const struct sockaddr_in6 *a, char out[HM_ADDR_TEXT_MAX]);
// Why there can be no socket at the address: HM_E_CONFIG when it is taken, not this machine's or
// not for this user to take, else HM_E_IO; protocol is "TCP" or "UDP".
hm_err hm_addr_fail(const struct sockaddr_in6 *a, const char *protocol, int err_no);

// The options as --help shows them, two columns; and as the table of the manual, in Markdown.
void hm_config_help(const hm_option *options, size_t count, hm_buf *out);
void hm_config_markdown(const hm_option *options, size_t count, hm_buf *out);

#endif
