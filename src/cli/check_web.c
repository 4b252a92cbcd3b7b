#include "src/cli/tool.h"

/* check_web.c - `check web-config`: the grammar is src/config's, here certificates are opened. */

#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

#include "src/base/fs.h"
#include "src/base/limits.h"
#include "src/config/config.h"

/* The text of a field, or of the file that another names. */
static nx_status text_of(struct nx_slice path, const char *what, struct nx_slice text,
                         struct buf *to, struct nx_err *err)
{
    if (!path.len) {
        buf_slice(to, text);
        return NX_OK;
    }
    if (fs_read_file(fs_real(), path.ptr, to, err) == NX_NOTFOUND)
        return nx_fail(err, NX_NOTFOUND,
                       "failed to read %s (%s): open %s: no such file or directory", what, path.ptr,
                       path.ptr);
    return err->code ? nx_context(err, "failed to read %s (%s)", what, path.ptr) : NX_OK;
}

static nx_status check_pair(struct buf *cert, struct buf *key, struct nx_err *err)
{
    gnutls_certificate_credentials_t c = NULL;
    gnutls_datum_t cert_pem = {(unsigned char *)(uintptr_t)buf_cstr(cert), (unsigned)cert->len},
                   key_pem = {(unsigned char *)(uintptr_t)buf_cstr(key), (unsigned)key->len};
    int rc;

    if (!strstr((const char *)cert_pem.data, "-----BEGIN"))
        return nx_fail(
            err, NX_BADINPUT,
            "failed to load X509KeyPair: tls: failed to find any PEM data in certificate "
            "input");
    if (!strstr((const char *)key_pem.data, "-----BEGIN"))
        return nx_fail(err, NX_BADINPUT,
                       "failed to load X509KeyPair: tls: failed to find any PEM data in key input");
    rc = gnutls_certificate_allocate_credentials(&c);
    if (rc >= 0)
        rc = gnutls_certificate_set_x509_key_mem(c, &cert_pem, &key_pem, GNUTLS_X509_FMT_PEM);
    if (c)
        gnutls_certificate_free_credentials(c);
    if (rc == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        return nx_fail(err, NX_BADINPUT,
                       "failed to load X509KeyPair: tls: private key does not match public key");
    if (rc < 0)
        return nx_fail(err, NX_BADINPUT, "failed to load X509KeyPair: tls: %s",
                       gnutls_strerror(rc));
    return NX_OK;
}

static nx_status check_certificate(const struct config_web_tls *t, struct nx_err *err)
{
    struct buf cert, key;
    nx_status st;

    buf_init(&cert, NX_LIMIT_CONFIG_BYTES);
    buf_init(&key, NX_LIMIT_CONFIG_BYTES);
    st = text_of(t->cert_file, "cert_file", t->cert, &cert, err);
    if (!st)
        st = text_of(t->key_file, "key_file", t->key.value, &key, err);
    if (!st)
        st = check_pair(&cert, &key, err);
    buf_done(&cert);
    buf_done(&key);
    return st;
}

static nx_status check_clients(const struct config_web_tls *t, struct nx_err *err)
{
    static const char *const known[] = {"",
                                        "NoClientCert",
                                        "RequestClientCert",
                                        "VerifyClientCertIfGiven",
                                        "RequireClientCert",
                                        "RequireAnyClientCert",
                                        "RequireAndVerifyClientCert"};
    struct buf ca;
    size_t i = 0;

    if (t->client_ca_file.len) {
        nx_status st;
        buf_init(&ca, NX_LIMIT_CONFIG_BYTES);
        st = fs_read_file(fs_real(), t->client_ca_file.ptr, &ca, err);
        buf_done(&ca);
        if (st)
            return st == NX_NOTFOUND ? nx_fail(err, st, "open %s: no such file or directory",
                                               t->client_ca_file.ptr)
                                     : st;
    }
    while (i < NX_COUNT(known) && !nx_slice_is(t->client_auth_type, known[i]))
        i++;
    if (i == NX_COUNT(known))
        return nx_fail(err, NX_BADINPUT, "invalid ClientAuth: %s", t->client_auth_type.ptr);
    if ((t->client_ca_file.len || t->client_ca.len) && i < 2)
        return nx_fail(err, NX_BADINPUT,
                       "client CA's have been configured without a Client Auth Policy");
    return NX_OK;
}

static nx_status check_tls(const struct config_web_tls *t, struct nx_err *err)
{
    bool cert = t->cert_file.len || t->cert.len, key = t->key_file.len || t->key.value.len;
    nx_status st;

    if (!cert && !key && !t->client_ca_file.len && !t->client_ca.len && !t->client_auth_type.len)
        return NX_OK; /* plain HTTP */
    if (!cert)
        return nx_fail(err, NX_BADINPUT, "missing one of cert or cert_file");
    if (!key)
        return nx_fail(err, NX_BADINPUT, "missing one of key or key_file");
    st = check_certificate(t, err);
    return st ? st : check_clients(t, err);
}

int tool_check_web(const struct flags *f)
{
    int code = 0;

    for (size_t i = 0; i < f->n_args; i++) {
        struct arena *a = arena_new(0);
        struct config_web w = {0};
        struct nx_err err = {0};
        nx_status st =
            a ? config_load_web(&w, f->args[i], a, &err) : nx_fail(&err, NX_NOMEM, "out of memory");

        if (!st)
            st = check_tls(&w.tls, &err);
        if (st)
            fprintf(stderr, "%s FAILED: %s\n", f->args[i], err.text);
        else
            fprintf(stderr, "%s SUCCESS\n", f->args[i]);
        code = st ? 1 : code;
        arena_free(a);
    }
    return code;
}
