// Prints docs/configuration.md from the tables of options.
#include <stdio.h>

#include "server/options.h"

int main(void)
{
    hm_buf b = {0};
    hm_buf_puts(&b,
                "# Configuration\n\n"
                "Every setting is a flag, an environment variable or a key of an INI file (named "
                "by `--config`);\nflags win over the environment, the environment over the file. "
                "An unknown flag or key is an error.\nThis page is printed from the programs' own "
                "tables: `ninja -C build configuration-doc`.\n\n## hypermesh-server\n\n");
    hm_config_markdown(hm_node_options, hm_node_option_count, &b);
    hm_buf_puts(&b, "\n## trustchain-server\n\n");
    hm_config_markdown(hm_trust_options, hm_trust_option_count, &b);
    hm_buf_puts(&b, "\n## stoq-server\n\n");
    hm_config_markdown(hm_stoq_options, hm_stoq_option_count, &b);
    int rc = hm_buf_status(&b) != HM_OK || fputs(hm_buf_cstr(&b), stdout) < 0;
    hm_buf_free(&b);
    return rc;
}
