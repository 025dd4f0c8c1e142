// The commands of trustchain-server that change who issues: rotate and issuing. They work on the
// directory beside a server that runs, which takes what they did at SIGHUP.
#ifndef HM_SERVER_ISSUING_COMMAND_H
#define HM_SERVER_ISSUING_COMMAND_H

#include "base/config.h"

// All borrowed for the call.
typedef struct issuing_paths {
    const char *dir, *authority; // the whole directory; the authority's in it
    const char *edge_root;       // file; the node that is asked must lead to it
} issuing_paths;

// Options: family, edge-names.
HM_CHECK hm_err issuing_rotate_command(const hm_config *c, const issuing_paths *p);
// list, use ID, remove ID. Options: family, node.
HM_CHECK hm_err issuing_command(const hm_config *c, const issuing_paths *p);

#endif
