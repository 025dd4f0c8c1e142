// What certificates are for: the one table of profiles.
#include "trustchain/trustchain.h"

#define DAY_S 86400u

static const tc_profile_rules profiles[TC_PROFILES] = {
    [TC_NODE] = {"node", TC_MESH, "critical,digitalSignature", "serverAuth,clientAuth",
                 TC_NODE_DAYS *DAY_S},
    [TC_SERVER] = {"server", TC_EDGE, "critical,digitalSignature", "serverAuth",
                   TC_NODE_DAYS *DAY_S},
    [TC_CLIENT] = {"client", TC_EDGE, "critical,digitalSignature", "clientAuth", 90 * DAY_S},
    [TC_CODE] = {"code", TC_EDGE, "critical,digitalSignature", "codeSigning", 365 * DAY_S},
};

const tc_profile_rules *tc_profile_of(tc_profile p)
{
    hm_assert(p < TC_PROFILES);
    return &profiles[p];
}

hm_err tc_profile_named(const char *name, tc_profile *out)
{
    for (unsigned p = 0; p < TC_PROFILES; p++)
        if (strcmp(profiles[p].name, name) == 0) {
            *out = (tc_profile)p;
            return HM_OK;
        }
    return hm_fail(HM_E_CSR, "no profile is called \"%.40s\"; there are node, server, client, code",
                   name);
}
