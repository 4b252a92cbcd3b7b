/* sd.h - the service discoveries as structs: one list of fields a kind makes the struct, its
 * defaults and its table.
 *
 * F(K, KIND, member, flags, default), K being the discovery's name: the member's name is the key.
 * The order is the one in which Prometheus prints them. static and file are in config.h. */
#pragma once

#include "src/config/config.h"

#define SD_SECOND 1000
#define SD_TEXT(s)                                                                                 \
    {                                                                                              \
        s, sizeof s - 1                                                                            \
    }

struct config_filter {
    struct nx_slice name;
    struct config_strings values;
};
struct config_filters {
    struct config_filter *v;
    size_t n;
};

// clang-format off
#define SD_AWS(F, K) \
    F(K, CHOICE, role, 0, SD_TEXT("")) F(K, STR, region, F_OMIT, SD_TEXT("")) F(K, STR, endpoint, F_OMIT, SD_TEXT("")) \
    F(K, STR, access_key, F_OMIT, SD_TEXT("")) F(K, SECRET, secret_key, F_OMIT, {{0}}) F(K, STR, profile, F_OMIT, SD_TEXT("")) \
    F(K, STR, role_arn, F_OMIT, SD_TEXT("")) F(K, STR, external_id, F_OMIT, SD_TEXT("")) \
    F(K, DURATION, refresh_interval, F_OMIT, 0) F(K, INT, port, F_OMIT, 0) F(K, HTTP, http, 0, {0}) \
    F(K, FILTERS, filters, F_OMIT, {0}) F(K, STRS, clusters, F_OMIT, {0})
#define SD_AZURE(F, K) \
    F(K, STR, environment, F_OMIT, SD_TEXT("AzurePublicCloud")) F(K, INT, port, 0, 80) F(K, STR, subscription_id, 0, SD_TEXT("")) \
    F(K, STR, tenant_id, F_OMIT, SD_TEXT("")) F(K, STR, client_id, F_OMIT, SD_TEXT("")) F(K, SECRET, client_secret, F_OMIT, {{0}}) \
    F(K, DURATION, refresh_interval, F_OMIT, 300 * SD_SECOND) F(K, STR, authentication_method, F_OMIT, SD_TEXT("OAuth")) \
    F(K, STR, resource_group, F_OMIT, SD_TEXT("")) F(K, HTTP, http, 0, SD_HTTP)
#define SD_CONSUL(F, K) \
    F(K, STR, server, F_OMIT, SD_TEXT("localhost:8500")) F(K, STR, path_prefix, F_OMIT, SD_TEXT("")) F(K, SECRET, token, F_OMIT, {{0}}) \
    F(K, STR, datacenter, F_OMIT, SD_TEXT("")) F(K, STR, namespace, F_OMIT, SD_TEXT("")) F(K, STR, partition, F_OMIT, SD_TEXT("")) \
    F(K, STR, tag_separator, F_OMIT, SD_TEXT(",")) F(K, STR, scheme, F_OMIT, SD_TEXT("http")) F(K, STR, username, F_OMIT, SD_TEXT("")) \
    F(K, SECRET, password, F_OMIT, {{0}}) F(K, BOOL, allow_stale, 0, true) F(K, DURATION, refresh_interval, F_OMIT, 30 * SD_SECOND) \
    F(K, STRS, services, F_OMIT, {0}) F(K, STRS, tags, F_OMIT, {0}) F(K, PAIRS, node_meta, F_OMIT, {0}) \
    F(K, STR, filter, F_OMIT, SD_TEXT("")) F(K, STR, health_filter, F_OMIT, SD_TEXT("")) F(K, HTTP, http, 0, SD_HTTP)
#define SD_DIGITALOCEAN(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, INT, port, 0, 80) \
    F(K, CHOICE, role, 0, SD_TEXT("droplets"))
#define SD_DNS(F, K) \
    F(K, STRS, names, 0, {0}) F(K, DURATION, refresh_interval, F_OMIT, 30 * SD_SECOND) F(K, STR, type, 0, SD_TEXT("SRV")) F(K, INT, port, 0, 0)
#define SD_DOCKER(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, STR, host, 0, SD_TEXT("")) F(K, INT, port, 0, 80) F(K, FILTERS, filters, 0, {0}) \
    F(K, STR, host_networking_host, 0, SD_TEXT("localhost")) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) \
    F(K, BOOL, match_first_network, 0, true)
#define SD_DOCKERSWARM(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, STR, host, 0, SD_TEXT("")) F(K, STR, role, 0, SD_TEXT("")) F(K, INT, port, 0, 80) \
    F(K, FILTERS, filters, 0, {0}) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND)
#define SD_EC2(F, K) \
    F(K, STR, endpoint, 0, SD_TEXT("")) F(K, STR, region, 0, SD_TEXT("")) F(K, STR, access_key, F_OMIT, SD_TEXT("")) \
    F(K, SECRET, secret_key, F_OMIT, {{0}}) F(K, STR, profile, F_OMIT, SD_TEXT("")) F(K, STR, role_arn, F_OMIT, SD_TEXT("")) \
    F(K, STR, external_id, F_OMIT, SD_TEXT("")) F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) F(K, INT, port, 0, 80) \
    F(K, FILTERS, filters, 0, {0}) F(K, HTTP, http, 0, SD_HTTP)
#define SD_EUREKA(F, K) \
    F(K, STR, server, F_OMIT, SD_TEXT("")) F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, F_OMIT, 30 * SD_SECOND)
#define SD_GCE(F, K) \
    F(K, STR, project, 0, SD_TEXT("")) F(K, STR, zone, 0, SD_TEXT("")) F(K, STR, filter, F_OMIT, SD_TEXT("")) \
    F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) F(K, INT, port, 0, 80) F(K, STR, tag_separator, F_OMIT, SD_TEXT(","))
#define SD_HETZNER(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, INT, port, 0, 80) \
    F(K, CHOICE, role, 0, SD_TEXT("")) F(K, STR, label_selector, F_OMIT, SD_TEXT(""))
#define SD_HTTP_KIND(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) F(K, STR, url, 0, SD_TEXT(""))
#define SD_IONOS(F, K) \
    F(K, STR, datacenter_id, 0, SD_TEXT("")) F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) \
    F(K, INT, port, 0, 80)
#define SD_KUBERNETES(F, K) \
    F(K, URL, api_server, F_OMIT, {.text = {0}}) F(K, CHOICE, role, 0, SD_TEXT("")) F(K, PATH, kubeconfig_file, 0, SD_TEXT("")) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, NAMESPACES, namespaces, F_OMIT, {0}) F(K, SELECTORS, selectors, F_OMIT, {0}) \
    F(K, ATTACH, attach_metadata, F_OMIT, {0})
#define SD_KUMA(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, F_OMIT, 15 * SD_SECOND) \
    F(K, DURATION, fetch_timeout, F_OMIT, 120 * SD_SECOND) F(K, STR, server, F_OMIT, SD_TEXT("")) F(K, STR, client_id, F_OMIT, SD_TEXT(""))
#define SD_LIGHTSAIL(F, K) \
    F(K, STR, endpoint, 0, SD_TEXT("")) F(K, STR, region, 0, SD_TEXT("")) F(K, STR, access_key, F_OMIT, SD_TEXT("")) \
    F(K, SECRET, secret_key, F_OMIT, {{0}}) F(K, STR, profile, F_OMIT, SD_TEXT("")) F(K, STR, role_arn, F_OMIT, SD_TEXT("")) \
    F(K, STR, external_id, F_OMIT, SD_TEXT("")) F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) F(K, INT, port, 0, 80) \
    F(K, HTTP, http, 0, SD_HTTP)
#define SD_LINODE(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, INT, port, 0, 80) \
    F(K, STR, tag_separator, F_OMIT, SD_TEXT(",")) F(K, STR, region, F_OMIT, SD_TEXT(""))
#define SD_MARATHON(F, K) \
    F(K, STRS, servers, F_OMIT, {0}) F(K, DURATION, refresh_interval, F_OMIT, 30 * SD_SECOND) F(K, SECRET, auth_token, F_OMIT, {{0}}) \
    F(K, PATH, auth_token_file, F_OMIT, SD_TEXT("")) F(K, HTTP, http, 0, SD_HTTP)
#define SD_NERVE(F, K) \
    F(K, STRS, servers, 0, {0}) F(K, STRS, paths, 0, {0}) F(K, DURATION, timeout, F_OMIT, 10 * SD_SECOND)
#define SD_NOMAD(F, K) \
    F(K, BOOL, allow_stale, 0, true) F(K, HTTP, http, 0, SD_HTTP) F(K, STR, namespace, 0, SD_TEXT("default")) \
    F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, STR, region, 0, SD_TEXT("global")) \
    F(K, STR, server, 0, SD_TEXT("http://localhost:4646")) F(K, STR, tag_separator, F_OMIT, SD_TEXT(","))
#define SD_OCI(F, K) \
    F(K, STR, auth, F_OMIT, SD_TEXT("api_key")) F(K, STR, tenancy, F_OMIT, SD_TEXT("")) F(K, STR, user, F_OMIT, SD_TEXT("")) \
    F(K, STR, fingerprint, F_OMIT, SD_TEXT("")) F(K, PATH, key_file, F_OMIT, SD_TEXT("")) F(K, SECRET, key_passphrase, F_OMIT, {{0}}) \
    F(K, PATH, key_passphrase_file, F_OMIT, SD_TEXT("")) F(K, STR, region, 0, SD_TEXT("")) F(K, STRS, compartments, F_OMIT, {0}) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, INT, port, 0, 80) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND)
#define SD_OPENSTACK(F, K) \
    F(K, STR, identity_endpoint, 0, SD_TEXT("")) F(K, STR, username, 0, SD_TEXT("")) F(K, STR, userid, 0, SD_TEXT("")) \
    F(K, SECRET, password, 0, {{0}}) F(K, STR, project_name, 0, SD_TEXT("")) F(K, STR, project_id, 0, SD_TEXT("")) \
    F(K, STR, domain_name, 0, SD_TEXT("")) F(K, STR, domain_id, 0, SD_TEXT("")) \
    F(K, STR, application_credential_name, 0, SD_TEXT("")) F(K, STR, application_credential_id, 0, SD_TEXT("")) \
    F(K, SECRET, application_credential_secret, 0, {{0}}) F(K, CHOICE, role, 0, SD_TEXT("")) F(K, STR, region, 0, SD_TEXT("")) \
    F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, INT, port, 0, 80) F(K, BOOL, all_tenants, F_OMIT, false) \
    F(K, TLSCONF, tls_config, F_OMIT, {.ca = {0}}) F(K, STR, availability, F_OMIT, SD_TEXT("public"))
#define SD_OUTSCALE(F, K) \
    F(K, STR, endpoint, F_OMIT, SD_TEXT("")) F(K, STR, region, 0, SD_TEXT("eu-west-2")) F(K, STR, access_key, 0, SD_TEXT("")) \
    F(K, SECRET, secret_key, 0, {{0}}) F(K, PATH, secret_key_file, 0, SD_TEXT("")) \
    F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) F(K, INT, port, 0, 80) F(K, HTTP, http, 0, SD_HTTP)
#define SD_OVHCLOUD(F, K) \
    F(K, STR, endpoint, 0, SD_TEXT("ovh-eu")) F(K, STR, application_key, 0, SD_TEXT("")) F(K, SECRET, application_secret, 0, {{0}}) \
    F(K, SECRET, consumer_key, 0, {{0}}) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, STR, service, 0, SD_TEXT(""))
#define SD_PUPPETDB(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) F(K, STR, url, 0, SD_TEXT("")) \
    F(K, STR, query, 0, SD_TEXT("")) F(K, BOOL, include_parameters, 0, false) F(K, INT, port, 0, 80)
#define SD_SCALEWAY(F, K) \
    F(K, STR, project_id, 0, SD_TEXT("")) F(K, STR, api_url, F_OMIT, SD_TEXT("https://api.scaleway.com")) \
    F(K, STR, zone, 0, SD_TEXT("fr-par-1")) F(K, STR, access_key, 0, SD_TEXT("")) F(K, SECRET, secret_key, 0, {{0}}) \
    F(K, PATH, secret_key_file, 0, SD_TEXT("")) F(K, STR, name_filter, F_OMIT, SD_TEXT("")) F(K, STRS, tags_filter, F_OMIT, {0}) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, INT, port, 0, 80) F(K, CHOICE, role, 0, SD_TEXT(""))
#define SD_SERVERSET(F, K) SD_NERVE(F, K)
#define SD_STACKIT(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, STR, project, 0, SD_TEXT("")) F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) \
    F(K, INT, port, F_OMIT, 80) F(K, STR, region, F_OMIT, SD_TEXT("eu01")) F(K, STR, endpoint, F_OMIT, SD_TEXT("")) \
    F(K, SECRET, service_account_key, F_OMIT, {{0}}) F(K, SECRET, private_key, F_OMIT, {{0}}) \
    F(K, STR, service_account_key_path, F_OMIT, SD_TEXT("")) F(K, STR, private_key_path, F_OMIT, SD_TEXT("")) \
    F(K, STR, credentials_file_path, F_OMIT, SD_TEXT(""))
#define SD_TRITON(F, K) \
    F(K, STR, account, 0, SD_TEXT("")) F(K, STR, role, 0, SD_TEXT("container")) F(K, STR, dns_suffix, 0, SD_TEXT("")) \
    F(K, STR, endpoint, 0, SD_TEXT("")) F(K, STRS, groups, F_OMIT, {0}) F(K, INT, port, 0, 9163) \
    F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND) F(K, TLSCONF, tls_config, F_OMIT, {.ca = {0}}) F(K, INT, version, 0, 1)
#define SD_UYUNI(F, K) \
    F(K, STR, server, 0, SD_TEXT("")) F(K, STR, username, 0, SD_TEXT("")) F(K, SECRET, password, 0, {{0}}) F(K, HTTP, http, 0, SD_HTTP) \
    F(K, STR, entitlement, F_OMIT, SD_TEXT("monitoring_entitled")) F(K, STR, separator, F_OMIT, SD_TEXT(",")) \
    F(K, DURATION, refresh_interval, F_OMIT, 60 * SD_SECOND)
#define SD_VULTR(F, K) \
    F(K, HTTP, http, 0, SD_HTTP) F(K, DURATION, refresh_interval, 0, 60 * SD_SECOND) F(K, INT, port, 0, 80)

/* kind, upper-case name, list, Go package and type of the section (messages name them) */
#define SD_KINDS(X) \
    X(aws, AWS, SD_AWS, "aws", "SDConfig") X(azure, AZURE, SD_AZURE, "azure", "SDConfig") \
    X(consul, CONSUL, SD_CONSUL, "consul", "SDConfig") \
    X(digitalocean, DIGITALOCEAN, SD_DIGITALOCEAN, "digitalocean", "SDConfig") \
    X(dns, DNS, SD_DNS, "dns", "SDConfig") X(docker, DOCKER, SD_DOCKER, "moby", "DockerSDConfig") \
    X(dockerswarm, DOCKERSWARM, SD_DOCKERSWARM, "moby", "DockerSwarmSDConfig") \
    X(ec2, EC2, SD_EC2, "aws", "EC2SDConfig") X(eureka, EUREKA, SD_EUREKA, "eureka", "SDConfig") \
    X(gce, GCE, SD_GCE, "gce", "SDConfig") \
    X(hetzner, HETZNER, SD_HETZNER, "hetzner", "SDConfig") X(http, HTTP, SD_HTTP_KIND, "http", "SDConfig") \
    X(ionos, IONOS, SD_IONOS, "ionos", "SDConfig") \
    X(kubernetes, KUBERNETES, SD_KUBERNETES, "kubernetes", "SDConfig") \
    X(kuma, KUMA, SD_KUMA, "xds", "SDConfig") X(lightsail, LIGHTSAIL, SD_LIGHTSAIL, "aws", "LightsailSDConfig") \
    X(linode, LINODE, SD_LINODE, "linode", "SDConfig") X(marathon, MARATHON, SD_MARATHON, "marathon", "SDConfig") \
    X(nerve, NERVE, SD_NERVE, "zookeeper", "NerveSDConfig") X(nomad, NOMAD, SD_NOMAD, "nomad", "SDConfig") \
    X(oci, OCI, SD_OCI, "oci", "SDConfig") X(openstack, OPENSTACK, SD_OPENSTACK, "openstack", "SDConfig") \
    X(outscale, OUTSCALE, SD_OUTSCALE, "outscale", "SDConfig") \
    X(ovhcloud, OVHCLOUD, SD_OVHCLOUD, "ovhcloud", "SDConfig") \
    X(puppetdb, PUPPETDB, SD_PUPPETDB, "puppetdb", "SDConfig") \
    X(scaleway, SCALEWAY, SD_SCALEWAY, "scaleway", "SDConfig") \
    X(serverset, SERVERSET, SD_SERVERSET, "zookeeper", "ServersetSDConfig") \
    X(stackit, STACKIT, SD_STACKIT, "stackit", "SDConfig") X(triton, TRITON, SD_TRITON, "triton", "SDConfig") \
    X(uyuni, UYUNI, SD_UYUNI, "uyuni", "SDConfig") X(vultr, VULTR, SD_VULTR, "vultr", "SDConfig")
// clang-format on

struct config_k8s_namespaces {
    bool own_namespace;
    struct config_strings names;
};
struct config_k8s_selector {
    struct nx_slice role, label, field;
};
struct config_k8s_selectors {
    struct config_k8s_selector *v;
    size_t n;
};
struct config_k8s_attach {
    bool node, namespace, deployment, job, cronjob;
};

/* The members: struct config_docker_sd { ...; struct nx_slice host; int64_t port; ... } */
#define SD_MEMBER_STR                            struct nx_slice
#define SD_MEMBER_PATH                           struct nx_slice
#define SD_MEMBER_CHOICE                         struct nx_slice
#define SD_MEMBER_SECRET                         struct config_secret
#define SD_MEMBER_BOOL                           bool
#define SD_MEMBER_INT                            int64_t
#define SD_MEMBER_DURATION                       int64_t /* ms */
#define SD_MEMBER_STRS                           struct config_strings
#define SD_MEMBER_PATHS                          struct config_strings
#define SD_MEMBER_PAIRS                          struct config_pairs
#define SD_MEMBER_URL                            struct config_url
#define SD_MEMBER_HTTP                           struct config_http
#define SD_MEMBER_TLSCONF                        struct config_tls
#define SD_MEMBER_FILTERS                        struct config_filters
#define SD_MEMBER_NAMESPACES                     struct config_k8s_namespaces
#define SD_MEMBER_SELECTORS                      struct config_k8s_selectors
#define SD_MEMBER_ATTACH                         struct config_k8s_attach
#define SD_MEMBER(K, kind, member, flags, value) SD_MEMBER_##kind member;
#define SD_STRUCT(name, upper, LIST, package, type)                                                \
    struct config_sd_##name {                                                                      \
        LIST(SD_MEMBER, name)                                                                      \
    };
SD_KINDS(SD_STRUCT)
#undef SD_STRUCT
