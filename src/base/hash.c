/* hash.c - XXH3 inlined, CRC-32C by the processor where it can, FNV-1a, MD5 by GnuTLS.
 *
 * RULES   H1  All three ways to a CRC-32C give the same number; which one runs is decided once, at
 *             the first call. */
#include "src/base/hash.h"

#define XXH_INLINE_ALL /* for the short keys we have, the call costs as much as the hash */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <string.h>
#include <xxhash.h>

#if defined(__x86_64__) || defined(__i386__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

uint64_t hash_bytes(const void *ptr, size_t len)
{
    return XXH3_64bits(len ? ptr : "", len);
}

/* Not commutative: (a, b) and (b, a) differ. The multiplier is 2^64 over the golden ratio. */
uint64_t hash_mix(uint64_t h, uint64_t more)
{
    h = (h ^ more) * 0x9e3779b97f4a7c15ull;
    h ^= h >> 32;
    h = (h + more) * 0xd6e8feb86659fd93ull;
    return h ^ h >> 32;
}

#define CRC32C_POLYNOMIAL 0x82f63b78u /* Castagnoli's, bits reversed */

static uint32_t crc_tables[8][256];

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int bit = 0; bit < 8; bit++)
            c = c >> 1 ^ (c & 1 ? CRC32C_POLYNOMIAL : 0);
        crc_tables[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int t = 1; t < 8; t++) {
            uint32_t c = crc_tables[t - 1][i];

            crc_tables[t][i] = c >> 8 ^ crc_tables[0][c & 0xff];
        }
    }
}

/* Eight bytes a step ("slicing by 8", Kounavis and Berry, 2005). */
static uint32_t crc_by_table(uint32_t crc, const uint8_t *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                              (uint32_t)p[3] << 24);

        crc = crc_tables[7][low & 0xff] ^ crc_tables[6][low >> 8 & 0xff] ^
              crc_tables[5][low >> 16 & 0xff] ^ crc_tables[4][low >> 24] ^ crc_tables[3][p[4]] ^
              crc_tables[2][p[5]] ^ crc_tables[1][p[6]] ^ crc_tables[0][p[7]];
    }
    for (; len; len--)
        crc = crc >> 8 ^ crc_tables[0][(crc ^ *p++) & 0xff];
    return crc;
}

#if defined(__x86_64__) || defined(__i386__)
#define HAVE_HARDWARE 1

static bool hardware_present(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_hardware(uint32_t crc, const uint8_t *p,
                                                                  size_t len)
{
#ifdef __x86_64__
    uint64_t wide = crc;

    for (; len >= 8; len -= 8, p += 8) {
        uint64_t v;

        memcpy(&v, p, sizeof v);
        wide = _mm_crc32_u64(wide, v);
    }
    crc = (uint32_t)wide;
#endif
    for (; len >= 4; len -= 4, p += 4) {
        uint32_t v;

        memcpy(&v, p, sizeof v);
        crc = _mm_crc32_u32(crc, v);
    }
    for (; len; len--)
        crc = _mm_crc32_u8(crc, *p++);
    return crc;
}
#elif defined(__ARM_FEATURE_CRC32)
#define HAVE_HARDWARE 1

static bool hardware_present(void)
{
    return true; /* compiled for it */
}

static uint32_t crc_by_hardware(uint32_t crc, const uint8_t *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t v;

        memcpy(&v, p, sizeof v);
        crc = __crc32cd(crc, v);
    }
    for (; len; len--)
        crc = __crc32cb(crc, *p++);
    return crc;
}
#else
#define HAVE_HARDWARE 0
#endif

typedef uint32_t crc_fn(uint32_t crc, const uint8_t *p, size_t len);
static crc_fn *crc_chosen;
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void choose_crc(void)
{
    make_tables();
    crc_chosen = crc_by_table;
#if HAVE_HARDWARE
    if (hardware_present())
        crc_chosen = crc_by_hardware;
#endif
}

uint32_t crc32c(uint32_t crc, const void *ptr, size_t len)
{
    pthread_once(&crc_once, choose_crc);
    return ~crc_chosen(~crc, ptr, len);
}

uint32_t crc32c_portable(uint32_t crc, const void *ptr, size_t len)
{
    pthread_once(&crc_once, choose_crc);
    return ~crc_by_table(~crc, ptr, len);
}

uint64_t hash_fnv1a(uint64_t h, const void *ptr, size_t len)
{
    const uint8_t *p = ptr;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 1099511628211ull;
    return h;
}

void hash_sha256(const void *ptr, size_t len, uint8_t digest[HASH_SHA256_BYTES])
{
    NX_ASSERT_ALWAYS(gnutls_hash_fast(GNUTLS_DIG_SHA256, len ? ptr : "", len, digest) == 0);
}

void hash_hmac_sha256(const void *key, size_t key_len, const void *ptr, size_t len,
                      uint8_t digest[HASH_SHA256_BYTES])
{
    uint8_t out[HASH_SHA256_BYTES];

    NX_ASSERT_ALWAYS(gnutls_hmac_fast(GNUTLS_MAC_SHA256, key_len ? key : "", key_len,
                                      len ? ptr : "", len, out) == 0);
    memcpy(digest, out, sizeof out);
}

void hash_hex(char to[HASH_HEX_BYTES], const uint8_t digest[HASH_SHA256_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < HASH_SHA256_BYTES; i++) {
        *to++ = digits[digest[i] >> 4];
        *to++ = digits[digest[i] & 15];
    }
    *to = '\0';
}

void hash_md5(const void *ptr, size_t len, uint8_t digest[16])
{
    /* Spreads targets over shards (relabelling's hashmod) and guards nothing, so a machine in FIPS
     * mode may compute it too. */
    GNUTLS_FIPS140_SET_LAX_MODE();
    NX_ASSERT_ALWAYS(gnutls_hash_fast(GNUTLS_DIG_MD5, len ? ptr : "", len, digest) == 0);
    GNUTLS_FIPS140_SET_STRICT_MODE();
}
