/* hash.h - hashes and checksums: xxh3 inside, CRC-32C on disk, FNV-1a, SHA-256 and MD5 where others have them. */
#pragma once

#include "src/base/status.h"

uint64_t hash_bytes(const void *ptr, size_t len); /* XXH3, 64 bits */
uint64_t hash_mix(uint64_t h, uint64_t more);     /* combines two hashes */
uint32_t crc32c(uint32_t crc, const void *ptr,
                size_t len); /* Castagnoli; start with 0; hardware where present */
uint32_t crc32c_portable(uint32_t crc, const void *ptr,
                         size_t len); /* the same without the hardware, for tests */
uint64_t hash_fnv1a(uint64_t h, const void *ptr, size_t len); /* start with HASH_FNV1A_INIT */
#define HASH_SHA256_BYTES 32
#define HASH_HEX_BYTES    (2 * HASH_SHA256_BYTES + 1)
void hash_sha256(const void *ptr, size_t len, uint8_t digest[HASH_SHA256_BYTES]);
void hash_hmac_sha256(const void *key, size_t key_len, const void *ptr, size_t len,
                      uint8_t digest[HASH_SHA256_BYTES]); /* may be where the key is */
void hash_hex(char to[HASH_HEX_BYTES],
              const uint8_t digest[HASH_SHA256_BYTES]); /* small letters, a NUL */
void hash_md5(const void *ptr, size_t len, uint8_t digest[16]);
#define HASH_FNV1A_INIT 14695981039346656037ull
