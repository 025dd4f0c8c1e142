// AES-GCM with VAES and VPCLMULQDQ on 256-bit registers, for processors without AVX-512.
#define HM_AEAD_TARGET __attribute__((target("aes,pclmul,avx2,vaes,vpclmulqdq")))
#define HM_AEAD_WIDE
#include "crypto/aead_gcm.h"

const hm_aead_ops hm_aead_vaes[2] = {
    [HM_AES_128_GCM] = {"vaes", hm_aesni_init_128, seal_128, open_128, hm_aesni_hp_init_128,
                        hm_aesni_masks_128},
    [HM_AES_256_GCM] = {"vaes", hm_aesni_init_256, seal_256, open_256, hm_aesni_hp_init_256,
                        hm_aesni_masks_256},
};
