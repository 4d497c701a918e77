/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's name in the first octets that a client sends: of a TLS ClientHello (SNI, RFC 6066), or
 * of an HTTP/1 request (Host). Pure.
 */
#ifndef REDIR_SNIFF_H
#define REDIR_SNIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNIFF_NAME_MAX 253

/* True: name is a public host name in lower case. False whenever there is a doubt: the hello is not
 * complete or not in one record, it is encrypted (ECH, ESNI; a decoy of it counts as well, being made
 * not to be told apart), there are two names, it names an address, another port than the one
 * connected to, or a name that means something only at home (sniff_is_public). */
bool sniff_name(const uint8_t *data, size_t len, uint16_t port, char name[SNIFF_NAME_MAX + 1]);

/* A host name of several labels that any resolver in the world would answer alike. */
bool sniff_is_public(const char *name);

#endif
