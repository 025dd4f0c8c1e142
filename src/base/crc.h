// CRC-32C (Castagnoli; RFC 3720, appendix B.4), with the processor's instruction where it has one.
#ifndef HM_BASE_CRC_H
#define HM_BASE_CRC_H

#include "base/base.h"

// Of what came before, 0 at first, and b after it.
uint32_t hm_crc32c(uint32_t before, hm_bytes b);

#endif
