// Which names an authority gives, by profile: the operator's file, in INI form.
//
//   [server]
//   allow = .example.org, www.example.net   ; any number of lines
//   allow = fd48:4d00::/32
//   deny = secret.example.org
//
// A rule is a name, the end of names (.example.org: all below it; @example.org), an IPv6 address or
// prefix, or * for everything. A name that a deny covers is refused, and so is one that none of the
// profile's allows covers, if it has any. A profile without rules may have all names. A node is
// asked about by its CN, a client and a signer of code by CN and names. Case does not count.
//
// The file is read once; any thread may ask then.
#ifndef HM_TRUSTCHAIN_POLICY_H
#define HM_TRUSTCHAIN_POLICY_H

#include "trustchain/trustchain.h"

#define TC_POLICY_FILE_MAX 262144u
#define TC_POLICY_RULES_MAX 4096u

typedef struct tc_policy tc_policy;

// HM_E_CONFIG with file, line and reason. Free with tc_policy_free().
HM_CHECK hm_err tc_policy_read(const char *path, tc_policy **out);
void tc_policy_free(tc_policy *p); // NULL is fine
// HM_E_DENIED unless the profile may have the name; policy may be NULL: all may have all.
HM_CHECK hm_err tc_policy_check(const tc_policy *policy, tc_profile p, const char *name);

// Asked from now on of everything that the authority issues, renewals too: tc_issue() gives
// HM_E_DENIED. Borrowed until close.
void tc_authority_set_policy(tc_authority *a, const tc_policy *policy);
// The same question before there is a request.
HM_CHECK hm_err tc_authority_allows(const tc_authority *a, tc_profile p, const char *name);

#endif
