/* promfiles.h - Prometheus's files, written byte by byte as its formats say, for tests of their readers.
 *
 * Encoders are as plain as can be and know nothing of src/promdata. Times in ms. */
#pragma once

#include "src/base/fs.h"
#include "src/base/labels.h"

void prom_u16(struct buf *b, uint16_t v); /* high byte first, as all of them */
void prom_u32(struct buf *b, uint32_t v);
void prom_u64(struct buf *b, uint64_t v);
void prom_crc(struct buf *b, size_t from); /* of what is behind `from` */

/* Bits behind one another, the last byte filled with zeros. */
struct prom_bits {
    struct buf *b;
    unsigned free; /* bits of the last byte */
};
void prom_bits(struct prom_bits *p, uint64_t v, unsigned n);
void prom_bit_text(struct prom_bits *p, const char *text); /* of 0 and 1; blanks are passed over */

/* Chunks without their length, encoding and checksum. */
void prom_xor(struct buf *b, const int64_t *t, const double *v, size_t n);
/* starts: 0 none, 1 one for all, 2 one that changes from the third sample on */
void prom_xor2(struct buf *b, const int64_t *t, const double *v, size_t n, int starts);

/* Adds a chunk to a file of chunks (the header, if it is empty); returns where. */
uint32_t prom_chunk(struct buf *file, uint8_t encoding, const struct buf *bytes);
/* Adds a chunk to a file of the head's chunks. encoding + 128: out of order. */
void prom_head_chunk(struct buf *file, uint64_t ref, int64_t min, int64_t max, uint8_t encoding,
                     const struct buf *bytes);

struct prom_chunk_meta {
    int64_t min, max;
    uint64_t ref;
};
struct prom_series {
    struct labels labels;
    const struct prom_chunk_meta *chunks;
    size_t n;
    uint64_t id; /* set by prom_index(): what tombstones call it */
};
/* Series are in the order of their labels. */
void prom_index(struct buf *b, uint8_t version, struct prom_series *series, size_t n);
void prom_meta(struct buf *b, const char *ulid, int64_t min, int64_t max, const char *hint);
void prom_tombstones(struct buf *b, const uint64_t *refs, const int64_t (*spans)[2], size_t n);

/* A segment of a log: records in fragments over pages. packed: 0, 's' or 'z'. */
void prom_record(struct buf *segment, const struct buf *rec, char packed);
void prom_pad_page(
    struct buf *segment); /* as at the end of a segment that goes on in the next one */
void prom_series_record(struct buf *rec, uint64_t ref, const struct labels *ls);
void prom_samples_record(struct buf *rec, const uint64_t *refs, const int64_t *t, const double *v,
                         size_t n);
void prom_stone_record(struct buf *rec, uint64_t ref, int64_t min, int64_t max);

/* Writes a whole file and the folders above it; syncs them. */
void prom_put(struct fs *fs, const char *path, const struct buf *b);
