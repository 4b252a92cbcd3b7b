/* limits.h - how large anything can get: the bounds that code of every folder shares, on one page. */
#pragma once

#define NX_LIMIT_CONFIG_BYTES       (16u << 20) /* one configuration file */
#define NX_LIMIT_SD_FILE_BYTES      (64u << 20) /* one file_sd file */
#define NX_LIMIT_SCRAPE_BODY_BYTES  (1u << 30)  /* one uncompressed exposition */
#define NX_LIMIT_URL_BYTES          (1u << 20)  /* request line and headers of one request */
#define NX_LIMIT_FORM_BYTES         (10u << 20) /* a form body, as in Go's ParseForm */
#define NX_LIMIT_NOTIFY_QUEUE_BYTES (32u << 20) /* alerts that wait for one Alertmanager */
#define NX_LIMIT_NOTIFY_BATCH_BYTES (8u << 20) /* of one request, before they are written as JSON */
#define NX_LIMIT_NOTIFY_BODY_BYTES  (256u << 20) /* and after that: one alert may fill a queue */
#define NX_LIMIT_NOTIFY_ALERTS      20000u       /* that direct notification knows of */
#define NX_LIMIT_NOTIFY_ALERT_BYTES (64u << 20)  /* of them */
#define NX_LIMIT_LABEL_VALUE_BYTES  (1u << 24)
#define NX_LIMIT_LABELS_PER_SERIES  (1u << 14)
#define NX_LIMIT_QUERY_BYTES        (4u << 20) /* the text of one expression */
#define NX_LIMIT_QUERY_DEPTH        512u       /* nesting of one expression */
#define NX_LIMIT_QUERY_STEPS        11000u     /* (end - start) / step of a range query */
#define NX_SELECTIONS_SERIES        (1u << 20) /* of 8 bytes, what selections that the head keeps take */
#define NX_LIMIT_WAL_RECORD_BYTES   (64u << 20)
