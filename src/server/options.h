// The options of the daemons: flags, environment, INI keys and the manual's tables in one place.
// docs/configuration.md is printed from them by config_doc.c.
#ifndef HM_SERVER_OPTIONS_H
#define HM_SERVER_OPTIONS_H

#include "base/config.h"

extern const hm_option hm_node_options[];
extern const size_t hm_node_option_count;
extern const hm_option hm_trust_options[];
extern const size_t hm_trust_option_count;
extern const hm_option hm_stoq_options[];
extern const size_t hm_stoq_option_count;

#endif
