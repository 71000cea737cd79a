/* Stands for the kernel's IPVS, which not every kernel has: every message of keepalived's checker process is
 * acknowledged, and nothing happens. */
enum { NL_CB_ACK = 4 };

static int *acknowledged;

int genl_ctrl_resolve(void *sock, const char *name) { return 30; }

int nl_socket_modify_cb(void *sock, int type, int kind, void *call, void *argument)
{
	if (type == NL_CB_ACK)
		acknowledged = argument;
	return 0;
}

int nl_socket_modify_err_cb(void *sock, int kind, void *call, void *argument) { return 0; }

int nl_send_auto(void *sock, void *message) { return 0; }

int nl_send_auto_complete(void *sock, void *message) { return 0; }

int nl_recvmsgs_default(void *sock)
{
	if (acknowledged)
		*acknowledged = 1;
	return 0;
}
